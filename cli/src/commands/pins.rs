//! `niks3 pins`

use super::CommandError;
use crate::args::PinsCommand;
use crate::client::Client;
use crate::printer::Printer;
use crate::store;

pub(super) async fn run(client: &Client, command: PinsCommand, printer: Printer) -> Result<(), CommandError> {
    match command {
        PinsCommand::Create { name, path } => {
            let (name, path) = (name.parse()?, store::resolve(&path)?);
            client.create_pin(&name, &path).await?;
            printer.say(&format!("Pinned {path} as {name}"));
        }
        PinsCommand::Delete { name } => {
            let name = name.parse()?;
            client.delete_pin(&name).await?;
            printer.say(&format!("Deleted pin {name}"));
        }
        PinsCommand::List { names_only, json } => {
            let pins = client.pins().await?;
            if json {
                let text = serde_json::to_string_pretty(&pins).unwrap_or_default();
                printer.data(&text);
            } else if names_only {
                for pin in &pins {
                    printer.data(&pin.name);
                }
            } else {
                let width = pins.iter().map(|pin| pin.name.len()).max().unwrap_or(0).max(4);
                printer.data(&format!("{:width$}  {:20}  STORE PATH", "NAME", "UPDATED"));
                for pin in &pins {
                    let at = pin.updated_at.replace_nanosecond(0).unwrap_or(pin.updated_at);
                    let format = &time::format_description::well_known::Rfc3339;
                    let at = at.format(format).unwrap_or_default();
                    printer.data(&format!("{:width$}  {at:20}  {}", pin.name, pin.store_path));
                }
            }
        }
    }
    Ok(())
}
