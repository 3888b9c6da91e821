//! From the sealing of a block to its storing by a follower, both on this machine, beside what the disk alone takes for a commit.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// A frame of the store's tip log with one short block.
const FRAME_BYTES: usize = 4 << 10;
/// Zeros that the store keeps written behind it.
const AHEAD_BYTES: usize = 1 << 20;

/// Commits as the store's tip log does, one a second, half a second after blocks are sealed, until the other end is dropped: what each
/// takes, in ms.
fn commit_alone(path: &Path, took: &Sender<f64>) {
    let file = File::create_new(path).unwrap();
    let (mut end, mut written) = (FRAME_BYTES, FRAME_BYTES);
    loop {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let to_half_ms = 1_000 - (since.subsec_millis() + 500) % 1_000;
        std::thread::sleep(Duration::from_millis(u64::from(to_half_ms)));
        let start = Instant::now();
        file.write_all_at(&[1; FRAME_BYTES], end as u64).unwrap();
        end += FRAME_BYTES;
        if end > written {
            file.write_all_at(&vec![0; AHEAD_BYTES], end as u64)
                .unwrap();
            written = end + AHEAD_BYTES;
        }
        file.sync_data().unwrap();
        if took.send(start.elapsed().as_secs_f64() * 1e3).is_err() {
            return;
        }
    }
}

pub(crate) fn live(bench: &mut Bench) {
    let dir = tempfile::tempdir_in(&bench.root).unwrap();
    let (took, alone) = channel();
    let file = dir.path().join("alone");
    std::thread::spawn(move || commit_alone(&file, &took));
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
    let alone: Vec<f64> = alone.try_iter().collect();
    for (what, ms, aim) in [
        (
            "from sealing a block to its storing by its validator",
            own,
            "",
        ),
        (
            "from sealing a block to its storing by a follower",
            followed,
            "10",
        ),
        (
            "a commit's writes and sync alone, one a second in the same folder",
            alone,
            "",
        ),
    ] {
        for (name, percent) in [("median", 50), ("99th percentile", 99)] {
            let mut samples = Samples::new();
            samples.push(percentile(&ms, percent));
            let what = format!("{what}, {name} of {}, ms", ms.len());
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
