//! Every way to hash gives the same.
#![allow(clippy::unwrap_used)]

use alloy_primitives::{B256, b256, keccak256};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

type UpdateEach = fn(&mut [(&mut Keccak256, &[u8])]);
type HashEach = fn(&[&[u8]], &mut [B256]);

/// Each way that this machine has, by name.
fn ways() -> Vec<(&'static str, UpdateEach, HashEach)> {
    let mut ways: Vec<(&'static str, UpdateEach, HashEach)> =
        vec![("one by one", update_one_by_one, hash_one_by_one)];
    #[cfg(target_arch = "x86_64")]
    match Avx2::find() {
        Some(_) => ways.push((
            "avx2",
            |streams| {
                Avx2::find().unwrap().update_each(streams);
                update_one_by_one(streams);
            },
            |messages, hashes| Avx2::find().unwrap().hash_each(messages, hashes),
        )),
        None => println!("skipped: no AVX2 here"),
    }
    ways.push(("chosen", update_each, hash_each));
    ways
}

fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn below(rng: &mut ChaCha8Rng, end: usize) -> usize {
    rng.next_u32() as usize % end
}

/// Of the Keccak team's ShortMsgKAT_256, lengths 0 and 8, and the hash that every header without ommers has.
#[test]
fn known_answers_are_given() {
    let nothing = b256!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    let empty_list = b256!("1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347");
    let cc = b256!("eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a");
    for (name, _, hash_each) in ways() {
        let mut hashes = [B256::ZERO; 3];
        hash_each(&[&[], &[0xc0], &[0xcc]], &mut hashes);
        assert_eq!(hashes, [nothing, empty_list, cc], "{name}");
    }
    let mut state = Keccak256::new();
    assert_eq!(state.clone().finalize(), nothing);
    state.update([0xcc]);
    assert_eq!(state.finalize(), cc);
}

#[test]
fn messages_of_every_length_hash_as_they_do_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let bytes = random(&mut rng, 1000);
    let messages: Vec<&[u8]> = (0..=bytes.len()).map(|len| &bytes[..len]).collect();
    let expected: Vec<B256> = messages.iter().map(keccak256).collect();
    for (name, _, hash_each) in ways() {
        let mut hashes = vec![B256::ZERO; messages.len()];
        hash_each(&messages, &mut hashes);
        assert_eq!(hashes, expected, "{name}");
    }
}

#[test]
fn messages_of_any_lengths_hash_side_by_side_as_they_do_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for round in 0..500 {
        let longest = [40, 140, 300, 5000][below(&mut rng, 4)];
        let count = below(&mut rng, 30);
        let messages: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let len = below(&mut rng, longest);
                random(&mut rng, len)
            })
            .collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        let expected: Vec<B256> = messages.iter().map(keccak256).collect();
        for (name, _, hash_each) in ways() {
            let mut hashes = vec![B256::ZERO; count];
            hash_each(&messages, &mut hashes);
            assert_eq!(hashes, expected, "{name}, round {round}");
        }
    }
}

#[test]
fn a_state_that_takes_every_length_in_two_pieces_hashes_the_whole() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let bytes = random(&mut rng, 1000);
    for len in 0..=bytes.len() {
        let cut = below(&mut rng, len + 1);
        let mut state = Keccak256::new();
        state.update(&bytes[..cut]);
        state.update(&bytes[cut..len]);
        assert_eq!(state.finalize(), keccak256(&bytes[..len]), "{cut} of {len}");
    }
}

#[test]
fn states_that_take_bytes_side_by_side_are_those_that_take_them_alone() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    for (name, update_each, _) in ways() {
        for round in 0..300 {
            let count = below(&mut rng, 11);
            let mut states = vec![Keccak256::new(); count];
            let mut texts = vec![Vec::new(); count];
            let alike = below(&mut rng, 3000);
            for _ in 0..4 {
                let pieces: Vec<Vec<u8>> = (0..count)
                    .map(|_| {
                        let len = match below(&mut rng, 4) {
                            0 => below(&mut rng, 3000),
                            1 => below(&mut rng, 3) * BLOCK_BYTES,
                            _ => alike,
                        };
                        random(&mut rng, len)
                    })
                    .collect();
                let mut streams: Vec<(&mut Keccak256, &[u8])> = states
                    .iter_mut()
                    .zip(pieces.iter().map(Vec::as_slice))
                    .collect();
                update_each(&mut streams);
                assert!(streams.iter().all(|(_, rest)| rest.is_empty()));
                for ((text, piece), state) in texts.iter_mut().zip(&pieces).zip(&states) {
                    text.extend_from_slice(piece);
                    let hash = state.clone().finalize();
                    assert_eq!(hash, keccak256(&text), "{name}, round {round}");
                }
            }
        }
    }
}
