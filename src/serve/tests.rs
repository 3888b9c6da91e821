//! Receipts in answers: both forms, both ways of compressing, the limits, and what is not there.
#![allow(clippy::unwrap_used)]

use alloy_primitives::U256;
use cairn_net::eth::message::{AnswerKind, Outgoing};
use cairn_store::{Genesis, Head, NewBlock, Writer, snappy};

use super::*;
use crate::chain::receipts::Receipts;
use crate::generate::{self, Params};

/// One receipt in eth/69's form, with a log of so many bytes.
fn receipts(data_bytes: usize, seed: u64) -> Vec<u8> {
    let data: Vec<u8> = (0..data_bytes as u64)
        .map(|n| (n.wrapping_add(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let mut log = vec![0x94];
    log.extend([7; 20]);
    log.push(0xc0);
    alloy_rlp::Encodable::encode(&data[..], &mut log);
    let mut receipt = vec![2, 1, 1];
    receipt.extend(list(&list(&log)));
    list(&list(&receipt))
}

fn list(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    alloy_rlp::Header {
        list: true,
        payload_length: payload.len(),
    }
    .encode(&mut out);
    out.extend_from_slice(payload);
    out
}

/// A store of a generated chain whose blocks have these receipts, and the blocks' hashes, the genesis block's first.
struct Kept {
    server: Server,
    hashes: Vec<B256>,
    _dir: tempfile::TempDir,
}

fn kept(all: &[Option<Vec<u8>>]) -> Kept {
    let params = Params {
        blocks: all.len() as u64,
        txs_per_block: 1,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let header = &generated.genesis.header;
    let genesis = Genesis {
        chain_id: 1337,
        hash: header.hash,
        difficulty: U256::from(1),
        header: &header.raw,
        body: &generated.genesis.body,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(dir.path(), &genesis).unwrap();
    let mut hashes = vec![header.hash];
    for (block, receipts) in blocks.zip(all) {
        let new = NewBlock {
            number: block.header.number(),
            hash: block.header.hash,
            td: block.td,
            header: &block.header.raw,
            body: &block.body,
            receipts: receipts.as_deref(),
        };
        let Head { hash, .. } = writer.commit(&[new], block.header.hash).unwrap();
        hashes.push(hash);
    }
    let (events, _) = crossbeam_channel::bounded(1);
    Kept {
        server: Server::new(writer.reader(), events, Arc::default()),
        hashes,
        _dir: dir,
    }
}

/// The items of the answer, end to end, and whether they were sent as they are kept.
fn answer(kept: &mut Kept, eth: u8, hashes: &[B256]) -> (Vec<u8>, bool) {
    let request = Request::Receipts {
        hashes: hashes.to_vec(),
    };
    let mut found = None;
    let mut send = |message: Outgoing<'_>| {
        found = Some(match message {
            Outgoing::Answer {
                kind: AnswerKind::Receipts,
                id: 3,
                items,
            } => (items.concat(), false),
            Outgoing::ReadyAnswer {
                kind: AnswerKind::Receipts,
                id: 3,
                raw_len,
                streams,
            } => {
                let raw = snappy::decompress(raw_len, &streams.concat()).unwrap();
                (raw, true)
            }
            other => panic!("{other:?}"),
        });
    };
    let mut reply = Reply::new(3, &request, &mut send);
    kept.server.reply(eth, &request, &mut reply).unwrap();
    found.unwrap()
}

fn with_blooms(receipts: &[u8]) -> Vec<u8> {
    let receipts = Receipts::decode(Form::Eth69, receipts).unwrap();
    receipts.encode(Form::Eth68)
}

#[test]
fn receipts_are_answered_in_the_form_of_the_peers_version() {
    let all = [receipts(10, 1), receipts(20, 2), receipts(30, 3)];
    let mut kept = kept(&all.clone().map(Some));
    let asked: Vec<B256> = kept.hashes[1..].to_vec();
    let (found, ready) = answer(&mut kept, 69, &asked);
    assert_eq!((found, ready), (all.concat(), false));
    let (found, ready) = answer(&mut kept, 68, &asked);
    assert_eq!(
        (found, ready),
        (all.map(|r| with_blooms(&r)).concat(), false)
    );
}

#[test]
fn large_receipts_go_out_as_they_are_kept_and_stop_at_the_soft_limit() {
    let all: Vec<_> = (0..4).map(|n| receipts(900_000, n)).collect();
    let mut kept = kept(&all.iter().cloned().map(Some).collect::<Vec<_>>());
    // The genesis block has none, and needs none stored.
    let asked = kept.hashes.clone();
    let expected = [NO_RECEIPTS, &all[..3].concat()].concat();
    let (found, ready) = answer(&mut kept, 69, &asked);
    assert!(found == expected && ready);
    let blooms: Vec<_> = all[..3].iter().map(|r| with_blooms(r)).collect();
    let (found, ready) = answer(&mut kept, 68, &asked);
    assert!(found == [NO_RECEIPTS, &blooms.concat()].concat() && !ready);
}

#[test]
fn what_a_message_cannot_hold_is_not_begun() {
    let all = [receipts(100, 1), receipts(ANSWER_LIMIT_BYTES, 2)];
    let mut kept = kept(&all.clone().map(Some));
    let asked: Vec<B256> = kept.hashes[1..].to_vec();
    for eth in [68, 69] {
        let (found, _) = answer(&mut kept, eth, &asked);
        let expected = if eth == 69 {
            all[0].clone()
        } else {
            with_blooms(&all[0])
        };
        assert!(found == expected);
        let (found, _) = answer(&mut kept, eth, &asked[1..]);
        assert!(found.is_empty());
    }
}

#[test]
fn the_first_block_without_receipts_ends_the_answer() {
    let all = [Some(receipts(10, 1)), None, Some(receipts(30, 3))];
    let mut kept = kept(&all);
    let hashes = kept.hashes.clone();
    for eth in [68, 69] {
        let one = all[0].as_ref().unwrap();
        let one = if eth == 69 {
            one.clone()
        } else {
            with_blooms(one)
        };
        assert_eq!(answer(&mut kept, eth, &hashes[1..]).0, one);
        assert_eq!(
            answer(&mut kept, eth, &[hashes[1], B256::ZERO, hashes[3]]).0,
            one
        );
        assert!(
            answer(&mut kept, eth, &[B256::ZERO, hashes[1]])
                .0
                .is_empty()
        );
    }
}
