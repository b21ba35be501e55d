//! The image can be built from source: what `.dockerignore` leaves out of its context is not missed. The build itself takes
//! a quarter of an hour, so here is what it reads first.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::process::Command;

use niks3_e2e::root;

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn its_context_holds_the_whole_workspace() {
    let project = root().unwrap();
    let work = tempfile::tempdir().unwrap();
    let (dockerfile, context) = (work.path().join("Dockerfile"), work.path().join("context"));
    std::fs::write(&dockerfile, "FROM scratch\nCOPY . /\n").unwrap();
    let mut buildah = Command::new("buildah");
    // Its image is nobody's, so it is kept where all of this goes.
    buildah.arg("--root").arg(work.path().join("images")).arg("--runroot").arg(work.path().join("run"));
    buildah
        .args(["--storage-driver", "vfs", "build", "--quiet", "--ignorefile"])
        .arg(project.join(".dockerignore"));
    buildah.arg("--file").arg(&dockerfile);
    buildah.arg("--output").arg(format!("type=local,dest={}", context.display()));
    run(buildah.arg(&project));
    // It reads the manifest of each member.
    run(Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"])
        .current_dir(&context));
    for read_by_the_compiler in ["migrations", "server/.sqlx"] {
        assert!(context.join(read_by_the_compiler).is_dir(), "{read_by_the_compiler} is left out");
    }
    for not_sent_along in [".git", "target", "docs"] {
        assert!(!context.join(not_sent_along).exists(), "{not_sent_along} is not left out");
    }
}
