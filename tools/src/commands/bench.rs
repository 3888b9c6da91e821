//! `bench`: how fast this store is read on this machine, in a few seconds.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use alloy_primitives::{B256, bytes::Bytes};
use cairn::chain::{self, SealedHeader};
use cairn_store::Snapshot;
use serde_json::{Value, json};

use crate::{
    failure::Failure, follow::Follow, output::Output, people, progress::Progress, request::Store,
    view,
};

/// Headers of one answer in syncing: what geth asks for.
const HEADERS_ASKED: usize = 192;

/// Headers read at once by a scan.
const HEADERS_SCANNED: usize = 8192;

/// A response of bodies is full at so many bytes, or so many bodies (eth's soft limit, and what geth asks for).
const RESPONSE_BYTES: usize = 2 << 20;
const RESPONSE_BODIES: usize = 128;

/// Hashes to look up: more than any cache of a processor has room for, few enough to be read before.
const HASHES: usize = 20_000;

/// The same questions each time: figures of two runs are to be compared.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// What measuring one thing gave.
struct Figure {
    name: &'static str,
    /// What is counted, as people are told.
    what: &'static str,
    count: u64,
    bytes: u64,
    time: Duration,
}

pub(crate) fn run(store: &Store, time: Duration) -> Result<(), Failure> {
    let mut follow = Follow::open(&store.folder)?;
    type Measure = fn(&Snapshot, &mut Dice, Duration) -> Result<Figure, Failure>;
    let measures: [Measure; 6] = [scan, answers, by_number, by_hash, bodies, verify];
    let each = time / measures.len() as u32;
    let mut figures = Vec::new();
    {
        let mut progress = Progress::new("measuring");
        for (at, measure) in measures.iter().enumerate() {
            progress.at(at as u64, measures.len() as u64);
            figures.push(follow.ask(|snapshot| measure(snapshot, &mut Dice(SEED), each))?);
        }
    }
    let snapshot = follow.snapshot();
    let head = snapshot.head();
    let mut out = Output::new(store.json);
    if out.is_json() {
        out.value(&json!({
            "store": store.folder.display().to_string(),
            "head": { "number": head.number, "hash": view::text(head.hash) },
            "seconds": time.as_secs_f64(),
            "figures": figures.iter().map(Figure::value).collect::<Value>(),
        }))?;
    } else {
        out.line(&format!(
            "{} blocks, one thread, {:.1} s; what the system has cached is read from there",
            people::count(head.number - snapshot.first_header() + 1),
            time.as_secs_f64()
        ))?;
        for figure in &figures {
            out.line(&figure.text())?;
        }
    }
    out.finish()
}

impl Figure {
    fn per_second(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn ns_each(&self) -> f64 {
        self.time.as_nanos() as f64 / self.count.max(1) as f64
    }

    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "count": self.count,
            "bytes": self.bytes,
            "seconds": self.time.as_secs_f64(),
            "per_second": self.per_second().round(),
            "bytes_per_second": self.bytes_per_second().round(),
            "ns_each": self.ns_each().round(),
        })
    }

    fn text(&self) -> String {
        let each = match self.ns_each() {
            ns @ ..10e3 => format!("{ns:.0} ns"),
            ns @ ..10e6 => format!("{:.1} us", ns / 1e3),
            ns => format!("{:.1} ms", ns / 1e6),
        };
        format!(
            "{:44} {:>12} a second  {each:>9} each  {:>9}/s",
            self.what,
            people::count(self.per_second() as u64),
            people::size(self.bytes_per_second() as u64),
        )
    }
}

/// Does `question` until the time is over; it gives what to count and the bytes it read.
fn measure(
    (name, what): (&'static str, &'static str),
    time: Duration,
    mut question: impl FnMut() -> Result<(u64, u64), Failure>,
) -> Result<Figure, Failure> {
    let (mut count, mut bytes) = (0, 0);
    let begin = Instant::now();
    loop {
        // Looking at the clock costs as much as a read: only now and then.
        for _ in 0..16 {
            let (more, read) = question()?;
            count += more;
            bytes += read;
            if read > 64 << 10 {
                break;
            }
        }
        let elapsed = begin.elapsed();
        if elapsed >= time {
            return Ok(Figure {
                name,
                what,
                count,
                bytes,
                time: elapsed,
            });
        }
    }
}

fn scan(snapshot: &Snapshot, _: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let first = snapshot.first_header();
    let mut next = first;
    let names = ("header_scan", "headers, one after the other");
    measure(names, time, || {
        let mut bytes = 0;
        let count = snapshot.headers(next, HEADERS_SCANNED, &mut |part| {
            bytes += black_box(part).len() as u64;
        })?;
        next += count as u64;
        if next > snapshot.head().number {
            next = first;
        }
        Ok((count as u64, bytes))
    })
}

fn answers(snapshot: &Snapshot, dice: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let first = snapshot.first_header();
    let last = (snapshot.head().number + 1).saturating_sub(HEADERS_ASKED as u64);
    let names = ("headers_192", "answers of 192 headers, anywhere");
    let mut answer = Vec::new();
    measure(names, time, || {
        let from = dice.within(first, last.max(first));
        answer.clear();
        snapshot.headers(from, HEADERS_ASKED, &mut |part| {
            answer.extend_from_slice(part);
        })?;
        Ok((1, black_box(&answer).len() as u64))
    })
}

fn by_number(snapshot: &Snapshot, dice: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let (first, last) = (snapshot.first_header(), snapshot.head().number);
    let names = ("header_by_number", "headers by number, anywhere");
    measure(names, time, || {
        let header = snapshot.header(dice.within(first, last))?;
        Ok((1, black_box(header).map_or(0, |header| header.len() as u64)))
    })
}

fn by_hash(snapshot: &Snapshot, dice: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let (first, last) = (snapshot.first_header(), snapshot.head().number);
    let mut hashes: Vec<B256> = Vec::with_capacity(HASHES);
    let begin = Instant::now();
    while hashes.is_empty() || (hashes.len() < HASHES && begin.elapsed() < time / 4) {
        hashes.extend(snapshot.hash(dice.within(first, last))?);
    }
    let mut at = 0;
    let names = ("number_by_hash", "numbers by hash, anywhere");
    measure(names, time, || {
        at = (at + 1) % hashes.len();
        black_box(snapshot.number(&hashes[at])?);
        Ok((1, 32))
    })
}

fn bodies(snapshot: &Snapshot, dice: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let (first, last) = (snapshot.first_body(), snapshot.head().number);
    let mut answer = Vec::with_capacity(2 * RESPONSE_BYTES);
    let names = ("body_responses", "responses of bodies, ready to encrypt");
    measure(names, time, || {
        let from = dice.within(first, last);
        answer.clear();
        let mut raw = 0;
        for number in from..=last.min(from + RESPONSE_BODIES as u64 - 1) {
            let Some(body) = snapshot.body_stream(number)? else {
                break;
            };
            raw += body.raw_len;
            answer.extend_from_slice(&body.stream);
            if raw >= RESPONSE_BYTES {
                break;
            }
        }
        black_box(&answer);
        Ok((1, raw as u64))
    })
}

fn verify(snapshot: &Snapshot, dice: &mut Dice, time: Duration) -> Result<Figure, Failure> {
    let (first, last) = (snapshot.first_body(), snapshot.head().number);
    let mut number = dice.within(first, last);
    let names = ("verify", "blocks verified: hashes and roots");
    measure(names, time, || {
        let mut bytes = 0;
        if let Some(raw) = snapshot.header(number)? {
            bytes += raw.len();
            // What does not decode is `verify`'s to tell.
            black_box(SealedHeader::decode(Bytes::copy_from_slice(&raw)).ok());
        }
        if let Some(body) = snapshot.body(number)? {
            bytes += body.len();
            black_box(chain::body::roots(&body).ok());
        }
        number = if number < last { number + 1 } else { first };
        Ok((1, bytes as u64))
    })
}

/// Numbers that nobody can guess but everybody can repeat (xorshift64*).
struct Dice(u64);

impl Dice {
    fn within(&mut self, first: u64, last: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let roll = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        first + ((u128::from(roll) * u128::from(last - first + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_reach_every_number_and_no_other() {
        let mut dice = Dice(SEED);
        let mut seen = [false; 7];
        for _ in 0..1000 {
            seen[(dice.within(3, 9) - 3) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
        assert_eq!(dice.within(5, 5), 5);
    }
}
