//! P7: a million objects marked and swept, by `e2e/gc-bench`, whose lines these figures are read from.

use anyhow::Context as _;
use tokio::process::Command;

use crate::Args;
use crate::report::{Goal, Row, Table, say};
use crate::samples::Samples;
use crate::server::run;

/// Of the graph, and of those that a sweep deletes.
const OBJECTS: u32 = 1_000_000;
const SWEPT: u32 = 50_000;

pub(crate) async fn measure(args: &Args) -> anyhow::Result<Vec<Table>> {
    say(&format!("collections: {OBJECTS} objects are made, marked and swept; some minutes"));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../gc-bench");
    let mut command = Command::new(program);
    command.arg(args.programs.join("niks3-server")).args([OBJECTS, SWEPT].map(|count| count.to_string()));
    let said = run(&mut command).await?;
    Ok(vec![table(&said)?])
}

/// The number that follows `before` in each line that has `of`.
fn numbers(said: &str, of: &str, before: &str) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for line in said.lines().filter(|line| line.contains(of)) {
        let rest = line.split(of).nth(1).and_then(|rest| rest.split(before).nth(1)).unwrap_or_default();
        let number: String =
            rest.chars().take_while(|letter| letter.is_ascii_digit() || *letter == '.').collect();
        samples.push(number.parse().with_context(|| format!("gc-bench said {line:?}"))?);
    }
    anyhow::ensure!(!samples.is_empty(), "gc-bench said nothing of {of:?}: {said}");
    Ok(samples)
}

fn table(said: &str) -> anyhow::Result<Table> {
    let mut rows = Vec::new();
    let mut add = |what: &str, unit, who: &str, samples, against: Option<&str>, goal| {
        let (what, who, against) = (what.to_owned(), who.to_owned(), against.map(str::to_owned));
        rows.push(Row { number: "P7", what, unit, who, samples, against, goal });
    };
    let marks = numbers(said, "mark and plan, round ", ": ")?;
    add("mark and plan (a dry run)", "ms", "this", marks, None, Some(Goal::AtMost(3000.0)));
    add("the same, CPU", "ms", "server", numbers(said, "mark and plan, round ", "of CPU ")?, None, None);
    let database = numbers(said, "ms in the server", ", ")?;
    add("the same, CPU", "ms", "PostgreSQL", database, None, None);
    add("server: memory idle", "MiB", "this", numbers(said, "server's memory", "idle ")?, None, None);
    let most = numbers(said, "server's memory", "most ")?;
    add("server: the most memory meanwhile", "MiB", "this", most, None, Some(Goal::AtMost(150.0)));
    let begins = "begin of 30 objects, p99 of 1000";
    let marking = numbers(said, "begin of 30 objects, while marking", "p99 ")?;
    let idle = numbers(said, "begin of 30 objects, idle", "p99 ")?;
    let goal = Some(Goal::RatioAtMost(2.0));
    add(begins, "ms", "while marking without a pause", marking, Some("idle"), goal);
    add(begins, "ms", "idle", idle, None, None);
    let sweeps = numbers(said, "a run that sweeps", "more than its mark: ")?;
    let goal = Some(Goal::AtLeast(5000.0));
    let alone = "`DeleteObjects` alone";
    add("objects deleted", "/s", "a run that sweeps, less its mark", sweeps, Some(alone), goal);
    let count = format!("{SWEPT} in ");
    let alone_took = numbers(said, "DeleteObjects alone", &count)?;
    add("objects deleted", "/s", alone, alone_took.map(|ms| f64::from(SWEPT) * 1000.0 / ms), None, None);
    let lock = numbers(said, "longest transaction that held locks of rows", ": ")?;
    let ten = "ten runs: the longest that others may have waited for a row";
    add(ten, "ms", "this", lock, None, Some(Goal::AtMost(100.0)));
    let goal = Some(Goal::RatioAtMost(1.05));
    let second = "after the second";
    let (all, tables) = ("ten runs: all tables", |run: &str| numbers(said, run, "all tables "));
    add(all, "MiB", "after the tenth", tables("run 10 of ten")?, Some(second), goal);
    add(all, "MiB", second, tables("run 2 of ten")?, None, None);
    let dead = numbers(said, "dead rows of objects after the tenth run", ": ")?;
    let goal = Some(Goal::AtMost(f64::from(OBJECTS) / 100.0));
    add("ten runs: dead rows of objects", "rows", "after the tenth", dead, None, goal);
    let how = format!(
        "`e2e/gc-bench`: {OBJECTS} objects of niks3's shape (a narinfo that refers to its NAR, its listing and 8 earlier \
         narinfos; every 50th path is a closure), of which each sweep deletes {SWEPT}. Then ten runs, each of which expires and \
         condemns a tenth more and deletes that of the run before. niks3 1.7 took 29 s for a mark on another day; it is not \
         measured here."
    );
    Ok(Table { title: "Collecting a million objects".to_owned(), how, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_gc_bench_says() {
        let said = "rows: 999999 objects of 333333 paths\n\
            mark and plan, round 1: 1450 ms; of CPU 1090 ms in the server, 780 ms in PostgreSQL\n\
            mark and plan, round 2: 1300 ms; of CPU 960 ms in the server, 750 ms in PostgreSQL\n\
            server's memory: idle 15 MiB, most 99 MiB\n\
            begin of 30 objects, idle: median 1.6 ms, p99 2.7 ms of 1000\n\
            begin of 30 objects, while marking: median 1.7 ms, p99 16.3 ms of 1000\n\
            DeleteObjects alone, 1000 keys a request, 4 at a time: 50000 in 1700 ms, 29411 objects/s\n\
            a run that sweeps 50000, round 1: 14000 ms, of it 12700 more than its mark: 3937 objects/s\n\
            run 2 of ten, which expires and condemns 99999 and deletes as many: 9000 ms; then all tables 637 MiB; objects 300 MB\n\
            run 10 of ten, which expires and condemns 99999 and deletes as many: 9000 ms; then all tables 654 MiB; objects 310 MB\n\
            longest transaction that held locks of rows, of 11508 seen: 33.4 ms, at most 100 ms wanted: met\n\
            dead rows of objects after the tenth run: 12, at most 9999 wanted: met\n";
        let rows = table(said).unwrap().rows;
        let medians: Vec<f64> = rows.iter().map(|row| row.samples.median().round()).collect();
        let collections = [1300.0, 960.0, 750.0, 15.0, 99.0, 16.0, 3.0, 3937.0, 29412.0];
        assert_eq!(medians, [&collections[..], &[33.0, 654.0, 637.0, 12.0]].concat());
        assert!(table("nothing").is_err());
        assert!(table(&said.replace("p99 2.7", "p99 -")).is_err());
    }
}
