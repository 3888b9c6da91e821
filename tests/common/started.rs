//! Networks made by `cairn network new`, and their nodes as their start scripts run them.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{STEP_TIMEOUT, run_ok, text};

/// Makes a network by `cairn network new`; gives what that says of it.
pub fn new_network(out: &Path, more: &[&str]) -> Value {
    let mut args = vec!["network", "new", "--json", "--out", text(out)];
    args.extend_from_slice(more);
    serde_json::from_slice(&run_ok(&args).stdout).unwrap()
}

/// A port that is free, as those after it are. No other call of this process gets any of them.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: Mutex<u16> = Mutex::new(0);
    let mut next = NEXT.lock().unwrap();
    let first = match *next {
        0 => 20_000 + (std::process::id() % 10_000) as u16,
        next => next,
    };
    let base = (first..32_000)
        .step_by(usize::from(count))
        .find(|base| (0..count).all(|k| TcpListener::bind(("127.0.0.1", base + k)).is_ok()))
        .unwrap();
    *next = base + count;
    base
}

/// A node that its start script runs; killed when dropped.
pub struct Started {
    pub child: Child,
    pub folder: PathBuf,
    pub log: PathBuf,
}

impl Started {
    pub fn by_script(folder: &Path, run: usize) -> Started {
        Started::by_script_with(folder, run, &[])
    }

    /// With more arguments.
    pub fn by_script_with(folder: &Path, run: usize, args: &[&str]) -> Started {
        let log = folder.join(format!("log.{run}"));
        let child = Command::new("sh")
            .arg(folder.join("start.sh"))
            .args(args)
            .env("CAIRN", env!("CARGO_BIN_EXE_cairn"))
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Started {
            child,
            folder: folder.into(),
            log,
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn wait_head(&mut self, number: u64) {
        let deadline = Instant::now() + STEP_TIMEOUT;
        let head = |data: &Path| {
            let reader = cairn_store::Reader::open(&data.join("blocks"));
            reader.map_or(0, |reader| reader.snapshot().head().number)
        };
        while head(&self.data()) < number {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}:\n{}", self.log());
            assert!(
                Instant::now() < deadline,
                "not at {number}:\n{}",
                self.log()
            );
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// As Ctrl-C does; the script has become the node.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
