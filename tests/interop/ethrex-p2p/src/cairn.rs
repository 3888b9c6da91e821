//! The cairn program as a child process: a data folder, a running node, and its head.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// From the start of the program to its listening.
const START: Duration = Duration::from_secs(30);
/// A thousand blocks over loopback on a busy machine.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How often a log or a store is looked at.
const LOOK: Duration = Duration::from_millis(100);

fn program(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} must name a binary (see tests/interop/README.md)"));
    PathBuf::from(path)
}

fn run(program: PathBuf, args: &[&str]) -> String {
    let output = Command::new(&program)
        .args(args)
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {args:?}: {told}",
        program.display()
    );
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Runs a command of `cairn` that ends by itself.
pub fn cairn(args: &[&str]) -> String {
    run(program("CAIRN_BIN"), args)
}

/// Runs a command of `cairn-store`.
pub fn store(args: &[&str]) -> String {
    run(program("CAIRN_STORE_BIN"), args)
}

/// The path as the programs take it.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names of text")
}

/// A TCP port of the loopback interface that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it is bound").port()
}

/// A running node. Killed when it is dropped.
pub struct Cairn {
    child: Child,
    log: Arc<Mutex<String>>,
    datadir: PathBuf,
    /// Where it listens, with its id.
    pub enode: String,
}

impl Cairn {
    /// Starts a node on a data folder and waits until it listens.
    pub fn start(datadir: &Path, args: &[&str]) -> Cairn {
        let port = free_port();
        let mut child = Command::new(program("CAIRN_BIN"))
            .args(["--datadir", text(datadir), "--port", &port.to_string()])
            .args(["--listen-addr", "127.0.0.1", "--verbosity", "4"])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cairn starts");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let into = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = into.lock().expect("nobody panics with the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut cairn = Cairn {
            child,
            log,
            datadir: datadir.into(),
            enode: String::new(),
        };
        let end = format!(":{port}");
        let begin = Instant::now();
        while cairn.enode.is_empty() {
            let log = cairn.log();
            let own = log
                .split(|c: char| c.is_whitespace() || c == '=')
                .find(|word| word.starts_with("enode://") && word.ends_with(&end));
            cairn.enode = own.unwrap_or_default().to_owned();
            assert!(
                begin.elapsed() < START,
                "cairn did not say its enode:\n{log}"
            );
            thread::sleep(LOOK);
        }
        cairn
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with the log").clone()
    }

    /// Waits until the block of this hash (0x and hex digits) is the head.
    pub fn reaches(&self, hash: &str) {
        let begin = Instant::now();
        loop {
            let info = store(&["info", "--json", "--datadir", text(&self.datadir)]);
            let info: Value = serde_json::from_str(&info).expect("info prints JSON");
            if info["head"]["hash"] == hash {
                return;
            }
            let late = begin.elapsed() > CATCH_UP;
            assert!(
                !late,
                "the head is {} and not {hash}:\n{}",
                info["head"],
                self.log()
            );
            thread::sleep(LOOK);
        }
    }

    /// Asks it to stop, and checks that it ended well.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("there is kill");
        assert!(told.success());
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "{status}:\n{}", self.log());
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

impl Drop for Cairn {
    fn drop(&mut self) {
        // Ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("the log of cairn:\n{}", self.log());
        }
    }
}
