//! How fast keccak-256 goes one wide and several wide: `cargo bench -p cairn-net --bench keccak`.
//!
//! Each row is measured in turns with the others, in CPU time of the thread. `CAIRN_BENCH_ROUNDS` says how often (9).
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use cairn_net::keccak::{Keccak256, hash_each, keccak256, update_each};
use rustix::time::{ClockId, clock_gettime};

/// What several sessions' MACs take in turn: it stays in the second cache.
const PIECE_BYTES: usize = 16 << 10;
const BYTES_A_ROUND: usize = 32 << 20;

fn cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn main() {
    let rounds = std::env::var("CAIRN_BENCH_ROUNDS").map_or(9, |text| text.parse().unwrap());
    let pieces: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; PIECE_BYTES]).collect();
    // lengths of transactions: transfers, then calls
    let messages: Vec<Vec<u8>> = (0..1000usize)
        .map(|n| vec![n as u8; if n % 3 == 0 { 115 } else { 180 + n * 37 % 700 }])
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let message_bytes: usize = messages.iter().map(|message| message.len()).sum();

    let stream_of = |hasher: &mut dyn FnMut(&[u8])| {
        for _ in 0..BYTES_A_ROUND / PIECE_BYTES {
            hasher(black_box(&pieces[0]));
        }
        BYTES_A_ROUND
    };
    let side_by_side = |width: usize| {
        let mut states = vec![Keccak256::new(); width];
        for _ in 0..BYTES_A_ROUND / PIECE_BYTES / width {
            let pieces = pieces.iter().map(|piece| black_box(piece).as_slice());
            let mut streams: Vec<_> = states.iter_mut().zip(pieces).collect();
            update_each(&mut streams);
        }
        black_box(states);
        BYTES_A_ROUND / PIECE_BYTES / width * width * PIECE_BYTES
    };
    let rows: [(&str, &dyn Fn() -> usize); 8] = [
        ("one stream, alloy-primitives", &|| {
            let mut state = alloy_primitives::Keccak256::new();
            stream_of(&mut |piece| state.update(piece))
        }),
        ("one stream", &|| {
            let mut state = Keccak256::new();
            stream_of(&mut |piece| state.update(piece))
        }),
        ("two streams side by side", &|| side_by_side(2)),
        ("three streams side by side", &|| side_by_side(3)),
        ("four streams side by side", &|| side_by_side(4)),
        ("eight streams side by side", &|| side_by_side(8)),
        ("messages of 115 to 880 bytes, each alone", &|| {
            for message in &messages {
                black_box(keccak256(black_box(message)));
            }
            message_bytes
        }),
        ("messages of 115 to 880 bytes, side by side", &|| {
            let mut hashes = vec![Default::default(); messages.len()];
            hash_each(black_box(&messages), &mut hashes);
            black_box(hashes);
            message_bytes
        }),
    ];
    let mut rates = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for ((_, run), rates) in rows.iter().zip(&mut rates) {
            let (mut bytes, start_s) = (0, cpu_s());
            while bytes < BYTES_A_ROUND {
                bytes += run();
            }
            rates.push(bytes as f64 / 1e9 / (cpu_s() - start_s));
        }
    }
    println!("GB/s of CPU time, medians of {rounds} rounds\n");
    for ((name, _), rates) in rows.iter().zip(&mut rates) {
        rates.sort_by(f64::total_cmp);
        println!("{name:44}{:6.2}", rates[rates.len() / 2]);
    }
}
