//! From the sealing of a block to its storing by a follower, both on this machine.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use crate::Bench;
use crate::program::{SEALING, cairn, text};
use crate::table::Samples;

/// A node whose log is read as it is written: a line is here some tens of microseconds after it was made.
struct Logged(Child);

struct Line {
    when: Instant,
    of: &'static str,
    text: String,
}

impl Logged {
    fn start(of: &'static str, dir: &Path, args: &[&str], to: &Sender<Line>) -> Logged {
        let mut child = cairn()
            .args([
                "--datadir",
                text(dir),
                "--listen-addr",
                "127.0.0.1",
                "--port",
                "0",
            ])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let to = to.clone();
        std::thread::spawn(move || {
            for text in lines.map_while(Result::ok) {
                let when = Instant::now();
                if to.send(Line { when, of, text }).is_err() {
                    return;
                }
            }
        });
        Logged(child)
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

pub(crate) fn live(bench: &mut Bench) {
    let dir = tempfile::tempdir_in(&bench.root).unwrap();
    let (to, lines) = channel();
    let validator = Logged::start("validator", &dir.path().join("validator"), &SEALING, &to);
    let enode = wait(&lines, "Listening for peers self=");
    let follower = dir.path().join("follower");
    let follower = Logged::start("follower", &follower, &["--bootnodes", &enode], &to);
    let mut sealed = HashMap::new();
    let (mut own, mut followed) = (Vec::new(), Vec::new());
    while followed.len() < bench.sealed {
        let line = lines.recv().unwrap();
        let number = |what: &str| {
            let (_, rest) = line.text.split_once(what)?;
            rest.split(' ').next()?.parse::<u64>().ok()
        };
        if let Some(number) = number("Sealed new block number=") {
            sealed.insert(number, line.when);
        }
        let stored =
            number("Imported new chain segment number=").and_then(|number| sealed.get(&number));
        if let Some(sealed) = stored {
            let ms = (line.when - *sealed).as_secs_f64() * 1e3;
            match line.of {
                "validator" => own.push(ms),
                _ => followed.push(ms),
            }
        }
    }
    drop((validator, follower));
    let what = "from sealing a block to its storing";
    for (whose, ms, aim) in [
        ("by its validator", own, ""),
        ("by a follower", followed, "10"),
    ] {
        for (name, percent) in [("median", 50), ("99th percentile", 99)] {
            let mut samples = Samples::new();
            samples.push(percentile(&ms, percent));
            let what = format!("{what} {whose}, {name} of {}, ms", ms.len());
            bench.table.row(&what, &samples, None, aim);
        }
    }
}

/// Waits for a line with `what`, and gives the word behind it.
fn wait(lines: &Receiver<Line>, what: &str) -> String {
    loop {
        let line = lines.recv().unwrap();
        if let Some((_, rest)) = line.text.split_once(what) {
            return rest.split(' ').next().unwrap().into();
        }
    }
}

/// The least value that so many percent of all do not exceed.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent).div_ceil(100) - 1]
}
