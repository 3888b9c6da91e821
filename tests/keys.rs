//! The signing keys: made, listed and taken in by `cairn account`, and used by a node.
#![allow(clippy::unwrap_used)]
mod common;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use common::home::{Home, json_of, sealed_by, secret_file};
use common::terminal::terminal;
use common::*;
use rustix::process::Signal;

#[test]
fn a_key_that_was_made_is_listed_and_seals_by_its_address_and_password() {
    let home = Home::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.key_file), 0o600);
    assert_eq!(mode(&home.data.join("keystore")), 0o700);
    let listed = json_of(&["account", "list", "--datadir", text(&home.data), "--json"]);
    assert_eq!(listed["accounts"][0]["address"], home.address);
    // In geth's words, for the scripts that take them apart.
    let shown =
        String::from_utf8(run_ok(&["account", "list", "--datadir", text(&home.data)]).stdout)
            .unwrap();
    let hex = home.address[2..].to_lowercase();
    assert_eq!(
        shown,
        format!(
            "Account #0: {{{hex}}} keystore://{}\n",
            home.key_file.display()
        )
    );

    let password = ["--enable-consensus", "--password", text(&home.password)];
    let mut node = Node::start(
        &home.data,
        &[&password[..], &["--validator", &home.address]].concat(),
    );
    node.wait_head(2);
    node.stop();
    assert_eq!(sealed_by(&home.data, 1), home.address);
    // The only key there is needs no name, and the log says whose it is.
    let mut node = Node::start(&home.data, &password);
    let line = node.wait_log("Unlocked the signer's key");
    assert!(line.contains(&home.address), "{line}");
    let number = node.head();
    node.wait_head(number + 1);
    let log = node.log();
    node.stop();
    assert!(!log.contains("correct horse"), "{log}");
}

#[test]
fn a_raw_key_is_taken_in_once_and_nobody_else_may_be_able_to_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, raw, password) = (
        dir.path().join("d"),
        dir.path().join("raw"),
        dir.path().join("p"),
    );
    secret_file(&password, "p\n", 0o600);
    // The development chain's key, whose address everybody knows.
    let key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    secret_file(&raw, key, 0o644);
    let import = [
        "account",
        "import",
        "--datadir",
        text(&data),
        "--password",
        text(&password),
        "--lightkdf",
        text(&raw),
    ];
    fails(&import, 1, &["mode 644", "chmod 600"]);
    secret_file(&raw, key, 0o600);
    secret_file(&password, "p\n", 0o640);
    fails(&import, 1, &["password file", "mode 640", "chmod 600"]);
    secret_file(&password, "p\n", 0o600);
    assert!(
        !data.join("keystore").exists(),
        "nothing is made for what was refused"
    );
    let said = String::from_utf8(run_ok(&import).stdout).unwrap();
    assert_eq!(
        said,
        format!("Address: {{{}}}\n", DEV_SIGNER[2..].to_lowercase())
    );
    fails(&import, 1, &["is there already"]);
    let listed = json_of(&["account", "list", "--datadir", text(&data), "--json"]);
    assert_eq!(listed["accounts"].as_array().unwrap().len(), 1);
    assert_eq!(listed["accounts"][0]["address"], DEV_SIGNER);
    let stored = std::fs::read_to_string(listed["accounts"][0]["file"].as_str().unwrap()).unwrap();
    assert!(!stored.contains(key), "{stored}");
}

#[test]
fn a_key_that_cannot_be_used_is_told_with_what_to_do() {
    let home = Home::new();
    let wrong = home.dir.path().join("wrong");
    secret_file(&wrong, "wrong", 0o600);
    let data = [
        "--datadir",
        text(&home.data),
        "--port",
        "0",
        "--enable-consensus",
    ];
    let with = |more: &[&str], status: i32, says: &[&str]| {
        fails(&[&data[..], more].concat(), status, says);
    };
    let (right, wrong) = (
        ["--password", text(&home.password)],
        ["--password", text(&wrong)],
    );

    with(&wrong, 1, &["wrong password", text(&home.key_file)]);
    with(&[], 2, &["no terminal", "--password FILE"]);
    let other = "0x00000000000000000000000000000000000000aa";
    let unknown = [&right[..], &["--validator", other]].concat();
    with(
        &unknown,
        2,
        &[
            "no key of 0x00000000000000000000000000000000000000AA",
            &home.address,
        ],
    );
    fails(
        &["account", "new", "--datadir", text(&home.data)],
        2,
        &["no terminal", "--password FILE"],
    );

    // Others may read it; two of one address; another's address in it.
    secret_file(
        &home.key_file,
        &std::fs::read_to_string(&home.key_file).unwrap(),
        0o604,
    );
    with(&right, 1, &["mode 604", "chmod 600"]);
    let json = std::fs::read_to_string(&home.key_file).unwrap();
    secret_file(&home.key_file, &json, 0o600);
    let copy = home.data.join("keystore/copy");
    secret_file(&copy, &json, 0o600);
    let named = [&right[..], &["--validator", &home.address]].concat();
    with(
        &named,
        1,
        &["2 key files", text(&copy), text(&home.key_file)],
    );
    with(&right, 2, &["which key?"]);
    std::fs::remove_file(&home.key_file).unwrap();
    secret_file(
        &copy,
        &json.replace(&home.address[2..].to_lowercase(), &other[2..]),
        0o600,
    );
    with(&right, 1, &["the key in it is of", &home.address]);
    std::fs::remove_file(&copy).unwrap();
    with(
        &right,
        2,
        &[
            "cairn account new",
            "cairn account import",
            "--signer unix:PATH",
        ],
    );
}

#[test]
fn a_node_key_that_others_may_read_is_warned_of() {
    let home = Home::new();
    let key = home.data.join("nodekey");
    secret_file(&key, &"11".repeat(32), 0o644);
    let mut node = Node::start(&home.data, &[]);
    let line = node.wait_log("node key file");
    assert!(
        line.contains("WARN") && line.contains("chmod 600") && line.contains("mode 644"),
        "{line}"
    );
    node.stop();
}

#[test]
fn on_a_terminal_the_password_is_asked_for_twice_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("d");
    let typed = |lines: &str| {
        let (mut person, terminal) = terminal();
        let mut child = cairn()
            .args(["account", "new", "--lightkdf", "--datadir", text(&data)])
            .stdin(terminal.try_clone().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut prompts = child.stderr.take().unwrap();
        let mut said = String::new();
        for line in lines.lines() {
            // Each is asked for before it is typed.
            let before = said.len();
            while !said[before..].ends_with(": ") {
                let mut byte = [0];
                assert_eq!(prompts.read(&mut byte).unwrap(), 1, "{said}");
                said.push(byte[0].into());
            }
            writeln!(person, "{line}").unwrap();
        }
        prompts.read_to_string(&mut said).unwrap();
        let output = child.wait_with_output().unwrap();
        // What the terminal shows of it.
        rustix::io::ioctl_fionbio(&person, true).unwrap();
        let mut shown = Vec::new();
        let _ = person.read_to_end(&mut shown);
        drop(terminal);
        (
            output.status.code(),
            said,
            String::from_utf8(shown).unwrap(),
        )
    };
    let (status, said, shown) = typed("one\ntwo");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("not the same"), "{said}");
    assert!(
        !shown.contains("one") && !shown.contains("two"),
        "{shown:?}"
    );
    let (status, said, shown) = typed("secret\nsecret");
    assert_eq!(status, Some(0), "{said}");
    assert!(!shown.contains("secret"), "{shown:?}");
    let password = dir.path().join("p");
    secret_file(&password, "secret", 0o600);
    let keystore = data.join("keystore");
    let file = std::fs::read_dir(keystore)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let file = cairn::keystore::KeyFile::from_json(&std::fs::read(file).unwrap()).unwrap();
    assert!(file.unlock(b"secret").is_ok());
}

#[test]
fn an_interrupt_at_the_prompt_leaves_the_terminal_with_its_echo() {
    use rustix::termios::{LocalModes, tcgetattr};
    let dir = tempfile::tempdir().unwrap();
    let (mut person, terminal) = terminal();
    let echo = || {
        let modes = tcgetattr(&terminal).unwrap().local_modes;
        modes.contains(LocalModes::ECHO | LocalModes::ISIG)
    };
    assert!(echo());
    let mut child = cairn()
        .args(["account", "new", "--lightkdf"])
        .args(["--datadir", text(&dir.path().join("d"))])
        .stdin(terminal.try_clone().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it asks", || !echo());
    person.write_all(b"sec\x03").unwrap();
    let mut status = None;
    wait_until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    use std::os::unix::process::ExitStatusExt as _;
    // Who runs the tests in the background may have the signal ignored: then it is a failure like any other.
    let (signal, code) = match is_ignored(Signal::INT) {
        false => (Some(Signal::INT.as_raw()), None),
        true => (None, Some(1)),
    };
    let status = status.unwrap();
    assert_eq!((status.signal(), status.code()), (signal, code));
    assert!(echo(), "the terminal is as it was");
}

#[test]
fn the_memory_of_a_process_with_a_key_is_roots_alone() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    use std::os::unix::process::CommandExt as _;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // Root's processes are root's anyway: as root, somebody else runs the nodes, who may not be let near this build.
    let own = rustix::process::getuid().as_raw();
    let user = if own == 0 { 65_534 } else { own };
    let program = dir.path().join("cairn");
    // By a child: a descriptor of ours that writes would be every other test's child's too, and nobody may run what is being written.
    let made = std::process::Command::new("install")
        .args(["-m", "755", env!("CARGO_BIN_EXE_cairn"), text(&program)])
        .status();
    assert!(made.unwrap().success());
    if own == 0 && !may_run_as(user, &program) {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"));
        println!("skipped: this system lets nobody run {program:?} as user {user}");
        return;
    }
    let owner = |name: &str, args: &[&str]| {
        let data = dir.path().join(name);
        let log = dir.path().join(format!("{name}.log"));
        std::fs::create_dir(&data).unwrap();
        let mut command = std::process::Command::new(&program);
        if own == 0 {
            chown(&data, Some(user), Some(user)).unwrap();
            command.uid(user).gid(user);
        }
        let mut child = command
            .args(["--datadir", text(&data), "--listen-addr", "127.0.0.1"])
            .args(["--port", "0"])
            .args(args)
            .env_remove("RUST_LOG")
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        wait_until("it listens", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", said());
            said().contains("self=enode://")
        });
        let memory = std::fs::metadata(format!("/proc/{}/mem", child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        // The control socket has its place also where the process may not look at itself.
        assert!(said().contains("Control socket path="), "{}", said());
        memory.unwrap().uid()
    };
    assert_eq!(owner("follower", &[]), user);
    assert_eq!(owner("validator", &SEALING), 0);
}

/// Whether this process, and so its children, ignore `signal`.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
    ignored >> (signal.as_raw() - 1) & 1 == 1
}

/// Whether root may run `program` as this user here.
fn may_run_as(user: u32, program: &Path) -> bool {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new(program);
    command.arg("--version").uid(user).gid(user);
    command.output().is_ok_and(|output| output.status.success())
}
