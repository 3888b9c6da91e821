//! Receipts in answers: all forms, both ways of compressing, in parts, the limits, what is not there, and what cannot be read.
#![allow(clippy::unwrap_used)]

use alloy_primitives::U256;
use cairn_net::eth::message::{AnswerKind, Outgoing};
use cairn_store::{Genesis, Head, NewBlock, Writer, snappy};

use super::*;
use crate::chain::receipts::{Form, NO_RECEIPTS, Receipts};
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
    dir: tempfile::TempDir,
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
        dir,
    }
}

/// The items of the answer to a request, end to end.
struct Answer {
    items: Vec<u8>,
    /// They were sent as they are kept.
    is_ready: bool,
    is_cut: bool,
}

fn ask(kept: &mut Kept, eth: u8, request: &Request) -> Answer {
    let mut found = Answer {
        items: Vec::new(),
        is_ready: false,
        is_cut: false,
    };
    let mut send = |message: Outgoing<'_>| match message {
        Outgoing::Answer { kind, id: 3, items } => {
            assert_eq!(kind.code(), request.answer_kind().code());
            found.items = items.concat();
            found.is_cut = kind == AnswerKind::CutReceipts;
        }
        Outgoing::ReadyAnswer {
            kind: AnswerKind::Receipts,
            id: 3,
            raw_len,
            streams,
        } => {
            found.items = snappy::decompress(raw_len, &streams.concat()).unwrap();
            found.is_ready = true;
        }
        other => panic!("{other:?}"),
    };
    let mut reply = Reply::new(3, request, &mut send);
    kept.server.serve(eth, request, &mut reply);
    found
}

/// The receipts of these blocks, end to end, and whether they were sent as they are kept.
fn answer(kept: &mut Kept, eth: u8, hashes: &[B256]) -> (Vec<u8>, bool) {
    let hashes = hashes.to_vec();
    let request = Request::Receipts {
        hashes,
        first_index: 0,
    };
    let answer = ask(kept, eth, &request);
    assert!(!answer.is_cut);
    (answer.items, answer.is_ready)
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
    for eth in [69, 70, 71] {
        let (found, ready) = answer(&mut kept, eth, &asked);
        assert_eq!((found, ready), (all.concat(), false));
    }
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
    for eth in [68, 69, 70] {
        let (found, _) = answer(&mut kept, eth, &asked);
        let expected = if eth > 68 {
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
    for eth in [68, 69, 70] {
        let one = all[0].as_ref().unwrap();
        let one = if eth > 68 {
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

/// A list of so many receipts of about so many bytes.
fn many(count: u64, data_bytes: usize) -> Vec<u8> {
    let receipts: Vec<u8> = (0..count)
        .flat_map(|n| rlp_payload(&receipts(data_bytes, n)).to_vec())
        .collect();
    list(&receipts)
}

fn rlp_payload(mut raw: &[u8]) -> &[u8] {
    alloy_rlp::Header::decode_bytes(&mut raw, true).unwrap()
}

fn items(mut payload: &[u8]) -> Vec<&[u8]> {
    let mut items = Vec::new();
    while !payload.is_empty() {
        let whole = payload;
        let header = alloy_rlp::Header::decode(&mut payload).unwrap();
        payload = &payload[header.payload_length..];
        items.push(&whole[..whole.len() - payload.len()]);
    }
    items
}

#[test]
fn one_blocks_receipts_beyond_the_soft_limit_come_in_parts_that_make_the_whole() {
    let all = [many(60, 100_000), receipts(50, 1), many(3, 500_000)];
    let mut kept = kept(&all.clone().map(Some));
    let hashes: Vec<B256> = kept.hashes[1..].to_vec();
    for eth in [70, 71] {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut answers = 0;
        let last = loop {
            let request = Request::Receipts {
                hashes: hashes.clone(),
                first_index: found.len() as u64,
            };
            let answer = ask(&mut kept, eth, &request);
            answers += 1;
            assert!(answer.items.len() <= SOFT_ANSWER_BYTES + PREFIX_LIMIT_BYTES);
            let blocks = items(&answer.items);
            found.extend(items(rlp_payload(blocks[0])).iter().map(|r| r.to_vec()));
            if !answer.is_cut {
                break blocks[1..].concat();
            }
            assert_eq!(blocks.len(), 1, "what is cut ends the answer");
            assert!(answer.items.len() > SOFT_ANSWER_BYTES - 110_000, "full");
        };
        assert_eq!(answers, 3, "6 MB in parts of 2 MiB");
        assert!(list(&found.concat()) == all[0]);
        assert!(
            last == all[1],
            "the next whole blocks follow, if there is room"
        );
        // Those behind it that are whole do not pass the soft limit.
        let (two, _) = answer(&mut kept, eth, &hashes[1..]);
        assert!(two == all[1..].concat());
    }
}

#[test]
fn an_index_beyond_the_receipts_of_a_block_gives_none_of_them() {
    let all = [many(3, 10), receipts(20, 2)];
    let mut kept = kept(&all.clone().map(Some));
    let hashes: Vec<B256> = kept.hashes.clone();
    for (first, first_index, expected) in [
        (1, 2, [list(&list_at(&all[0], 2)), all[1].clone()].concat()),
        (1, 3, [NO_RECEIPTS, &all[1]].concat()),
        (1, u64::MAX, [NO_RECEIPTS, &all[1]].concat()),
        (0, 1, [NO_RECEIPTS, &all.concat()].concat()),
    ] {
        let request = Request::Receipts {
            hashes: hashes[first..].to_vec(),
            first_index,
        };
        let answer = ask(&mut kept, 70, &request);
        assert_eq!((answer.items, answer.is_cut), (expected, false));
    }
}

/// The receipts of a list from the `index`-th on.
fn list_at(receipts: &[u8], index: usize) -> Vec<u8> {
    items(rlp_payload(receipts))[index..].concat()
}

#[test]
fn a_receipt_longer_than_the_soft_limit_goes_alone_and_one_longer_than_a_message_not_at_all() {
    let long = [many(2, 3 << 20), receipts(ANSWER_LIMIT_BYTES, 1)];
    let mut kept = kept(&long.clone().map(Some));
    let hashes = kept.hashes.clone();
    let request = |first: usize, first_index| Request::Receipts {
        hashes: hashes[first..].to_vec(),
        first_index,
    };
    let answer = ask(&mut kept, 70, &request(1, 0));
    assert!(answer.is_cut && items(rlp_payload(&answer.items)).len() == 1);
    let answer = ask(&mut kept, 70, &request(1, 1));
    assert!(!answer.is_cut && answer.items == list(&list_at(&long[0], 1)));
    let answer = ask(&mut kept, 70, &request(2, 0));
    assert!(!answer.is_cut && answer.items.is_empty());
}

#[test]
fn of_block_access_lists_none_is_there() {
    let mut kept = kept(&[None]);
    for count in [0, 1, 1024] {
        let request = Request::BlockAccessLists {
            hashes: vec![kept.hashes[0]; count],
        };
        assert_eq!(ask(&mut kept, 71, &request).items, vec![0x80; count]);
    }
}

/// A file that is cut short under the map does to it what a bad sector does.
#[test]
fn what_cannot_be_read_is_an_empty_answer_to_one_request_and_the_next_is_served() {
    // The last is a batch of its own: all of them settle into one segment, it at the end.
    let all: Vec<_> = [1_000, 1_000, 9 << 20]
        .map(|bytes| receipts(bytes, 1))
        .into();
    let mut kept = kept(&all.iter().cloned().map(Some).collect::<Vec<_>>());
    let [first, last] = [kept.hashes[1], kept.hashes[3]];
    assert!(answer(&mut kept, 69, &[first]).0 == all[0], "it is mapped");
    let mut segments = std::fs::read_dir(kept.dir.path().join("receipts")).unwrap();
    let path = segments.next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole.len() as u64 - (1 << 20)).unwrap();
    for eth in [68, 69, 70] {
        assert!(answer(&mut kept, eth, &[last]).0.is_empty());
        let one = match eth {
            68 => with_blooms(&all[0]),
            _ => all[0].clone(),
        };
        assert!(answer(&mut kept, eth, &[first]).0 == one);
    }
    assert!(!kept.server.has_failed(), "the node goes on");
    // The disk gives it again.
    std::fs::write(&path, &whole).unwrap();
    assert!(answer(&mut kept, 69, &[last]).0 == all[2]);
}

#[test]
fn what_is_damaged_stops_the_node() {
    let all: Vec<_> = [1_000, 9 << 20].map(|bytes| receipts(bytes, 1)).into();
    let mut kept = kept(&all.iter().cloned().map(Some).collect::<Vec<_>>());
    let mut segments = std::fs::read_dir(kept.dir.path().join("receipts")).unwrap();
    let path = segments.next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let last = kept.hashes[2];
    assert!(answer(&mut kept, 69, &[last]).0.is_empty());
    assert!(kept.server.has_failed());
    assert!(matches!(
        kept.server.damage(),
        Some(cairn_store::Error::Damaged { .. })
    ));
}
