#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use alloy_primitives::{B256, U256};
use bytes::Bytes;
use cairn_net::eth::message::{Message, Request, Start};
use cairn_net::reactor::PeerId;
use cairn_store::Head;
use secp256k1::SecretKey;
use serde_json::json;

use super::fetch::{Fetch, Next, Wrong};
use super::{Checkpoint, settled};
use crate::chain::{Genesis, Rules, SealedHeader, clique};
use crate::generate::{self, Params};
use crate::sync::{Block, Fault};

const EPOCH: u64 = 64;
const ERA: u64 = 8192;

struct Chain {
    genesis: Genesis,
    /// By number; the genesis block's body is never asked for.
    blocks: Vec<(SealedHeader, Bytes)>,
    numbers: HashMap<B256, usize>,
}

/// Three signers in turn, a transaction in each block, a checkpoint every 64 blocks, past the first era.
static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let key = |byte: u8| SecretKey::from_byte_array(&[byte; 32]).unwrap();
    let mut keys: Vec<SecretKey> = (1..=3).map(key).collect();
    keys.sort_by_key(clique::address_of);
    let list: Vec<u8> = keys
        .iter()
        .flat_map(|key| clique::address_of(key).0.0)
        .collect();
    let extra = |list: &[u8]| [&[0; 32][..], list, &[0; 65]].concat();
    let (generated, made) = generate::blocks(&Params {
        blocks: ERA + 19 * EPOCH,
        txs_per_block: 1,
        ..Params::default()
    });
    let mut genesis: serde_json::Value = serde_json::from_str(&generated.genesis_json).unwrap();
    genesis["extraData"] = json!(alloy_primitives::hex::encode_prefixed(extra(&list)));
    genesis["config"]["clique"] = json!({ "period": 1, "epoch": EPOCH });
    let genesis = Genesis::from_json(genesis.to_string().as_bytes()).unwrap();
    let mut blocks = vec![(genesis.header.clone(), genesis.body.clone())];
    for block in made {
        let mut header = block.header.header.clone();
        let number = header.number;
        header.parent_hash = blocks.last().unwrap().0.hash;
        let listed = if number.is_multiple_of(EPOCH) {
            &list[..]
        } else {
            &[]
        };
        header.extra_data = extra(listed).into();
        header.difficulty = U256::from(2);
        clique::seal(&mut header, &keys[number as usize % 3]);
        blocks.push((SealedHeader::from_header(header), block.body.into()));
    }
    let numbered = blocks.iter().enumerate();
    let numbers = numbered.map(|(number, (header, _))| (header.hash, number));
    Chain {
        genesis,
        numbers: numbers.collect(),
        blocks,
    }
});

impl Chain {
    fn td(&self, number: u64) -> U256 {
        self.genesis.header.header.difficulty + U256::from(2 * number)
    }

    fn head(&self, number: u64) -> Head {
        Head {
            number,
            hash: self.blocks[number as usize].0.hash,
            td: self.td(number),
        }
    }

    fn checkpoint(&self, number: u64) -> Checkpoint {
        let Head { hash, td, .. } = self.head(number);
        Checkpoint { number, hash, td }
    }

    fn fetch(&self, number: u64, stored: u64) -> Fetch {
        let rules = Arc::new(Rules::new(&self.genesis));
        Fetch::new(rules, self.checkpoint(number), self.head(stored))
    }

    fn number(&self, hash: &B256) -> usize {
        self.numbers[hash]
    }

    /// What an honest peer answers that gives at most so many items.
    fn answer(&self, id: u64, request: &Request, most: usize) -> Message {
        match request {
            Request::Headers {
                start: Start::Hash(hash),
                amount,
                skip: 0,
                reverse: true,
            } => {
                let falling = self.blocks[..=self.number(hash)].iter().rev();
                let falling = falling.take(most.min(*amount as usize));
                let headers = falling.map(|(header, _)| header.raw.clone()).collect();
                Message::Headers { id, headers }
            }
            Request::Bodies { hashes } => {
                let body = |hash| self.blocks[self.number(hash)].1.clone();
                let bodies = hashes.iter().take(most).map(body).collect();
                Message::Bodies { id, bodies }
            }
            other => panic!("asked {other:?}"),
        }
    }
}

/// Lets one honest peer answer until all is here: what the store was to begin above, and its blocks.
fn run(fetch: &mut Fetch, most: usize) -> (Option<Head>, Vec<Block>) {
    let (mut below, mut blocks) = (None, Vec::new());
    fetch.connected(PeerId(1));
    for now_ms in 0.. {
        match fetch.next(now_ms) {
            Next::Ask { peer, id, request } => {
                let answer = CHAIN.answer(id, &request, most);
                fetch.message(peer, answer, now_ms).unwrap();
            }
            Next::Begin(head) => assert_eq!(below.replace(head), None),
            Next::Keep(some) => blocks.extend(some),
            Next::Done => break,
            other => panic!("{other:?}"),
        }
    }
    (below, blocks)
}

fn assert_blocks(blocks: &[Block], first: u64, last: u64) {
    assert_eq!(blocks.len() as u64, last + 1 - first);
    for (block, number) in blocks.iter().zip(first..) {
        let (header, body) = &CHAIN.blocks[number as usize];
        assert_eq!(
            (block.header.hash, &block.body),
            (header.hash, body),
            "{number}"
        );
        assert_eq!(block.td, CHAIN.td(number), "{number}");
    }
}

/// What is asked next.
#[track_caller]
fn asks(fetch: &mut Fetch, now_ms: u64) -> (PeerId, u64, Request) {
    match fetch.next(now_ms) {
        Next::Ask { peer, id, request } => (peer, id, request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_begins_with_the_era_of_the_blocks_that_say_who_sealed_recently() {
    let number = ERA + 2 * EPOCH;
    for most in [1024, 40] {
        let mut fetch = CHAIN.fetch(number, 0);
        let (below, blocks) = run(&mut fetch, most);
        assert_eq!(below, Some(CHAIN.head(ERA - 1)));
        assert_blocks(&blocks, ERA, number);
    }
}

#[test]
fn where_those_blocks_are_of_the_first_era_it_begins_with_the_genesis_block() {
    // The checkpoint is the first block of the second era; one before it is needed too.
    let (below, blocks) = run(&mut CHAIN.fetch(ERA, 0), 1024);
    assert_eq!(below, None, "as it does already");
    assert_blocks(&blocks, 1, ERA);
}

#[test]
fn a_beginning_that_was_cut_short_is_gone_on_with() {
    let (number, stored) = (ERA + 2 * EPOCH, ERA + 30);
    let (below, blocks) = run(&mut CHAIN.fetch(number, stored), 50);
    assert_eq!(below, None);
    assert_blocks(&blocks, stored + 1, number);
    // The last block is missing.
    let (_, blocks) = run(&mut CHAIN.fetch(number, number - 1), 50);
    assert_blocks(&blocks, number, number);
}

/// How the fetching ends that one honest peer serves.
fn verdict(mut fetch: Fetch) -> Wrong {
    fetch.connected(PeerId(1));
    for now_ms in 0..100 {
        if let Next::Ask { peer, id, request } = fetch.next(now_ms) {
            let answer = CHAIN.answer(id, &request, 1024);
            if let Err(wrong) = fetch.message(peer, answer, now_ms) {
                return wrong;
            }
        }
    }
    panic!("nothing was found wrong");
}

#[test]
fn what_is_wrong_with_the_checkpoint_or_the_store_is_told_and_no_peer_is_blamed() {
    let number = ERA + 2 * EPOCH;
    let rules = || Arc::new(Rules::new(&CHAIN.genesis));
    let good = CHAIN.checkpoint(number);
    let told = |checkpoint: Checkpoint, stored: Head, says: &str| {
        let wrong = verdict(Fetch::new(rules(), checkpoint, stored));
        let Wrong::Checkpoint(why) = wrong else {
            panic!("{wrong:?}")
        };
        assert!(why.contains(says), "{why}");
    };
    let genesis = CHAIN.head(0);
    let other_number = Checkpoint {
        number: number + EPOCH,
        ..good
    };
    told(other_number, genesis, "is block 8320, not 8384");
    let (hash, td) = (CHAIN.blocks[8321].0.hash, CHAIN.td(8321));
    let no_checkpoint = Checkpoint {
        number: 8321,
        hash,
        td,
    };
    told(no_checkpoint, genesis, "it lists no signers");
    let light = Checkpoint {
        td: U256::from(100),
        ..good
    };
    told(light, genesis, "weigh 258, more than the 100");
    let stored = CHAIN.head(ERA + 5);
    let heavier = Checkpoint {
        td: good.td + U256::ONE,
        ..good
    };
    told(
        heavier,
        stored,
        "by its total difficulty block 8197 would have",
    );
    let of_another = Head {
        hash: B256::repeat_byte(7),
        ..stored
    };
    told(good, of_another, "it is of another chain");
    let far = CHAIN.checkpoint(ERA + 19 * EPOCH);
    told(far, CHAIN.head(EPOCH), "ends with block 64");
}

#[test]
fn who_lies_is_blamed_and_what_was_good_of_his_answer_is_kept() {
    let number = ERA + EPOCH;
    let mut fetch = CHAIN.fetch(number, 0);
    fetch.connected(PeerId(1));
    let header = |number: u64| CHAIN.blocks[number as usize].0.raw.clone();
    let body = |number: u64| CHAIN.blocks[number as usize].1.clone();
    let blame = |fetch: &mut Fetch, message: Message| match fetch.message(PeerId(1), message, 0) {
        Err(Wrong::Peer(fault)) => fault,
        other => panic!("{other:?}"),
    };
    let again = |fetch: &mut Fetch| {
        fetch.gone(PeerId(1));
        fetch.connected(PeerId(1));
        asks(fetch, 0).1
    };
    let id = asks(&mut fetch, 0).1;
    let headers = vec![header(number), header(number - 1)];
    let fault = blame(&mut fetch, Message::Headers { id, headers });
    assert_eq!(
        fault,
        Fault::TooManyItems {
            allowed: 1,
            found: 2
        }
    );
    let id = again(&mut fetch);
    let fault = blame(
        &mut fetch,
        Message::Headers {
            id,
            headers: vec![header(5)],
        },
    );
    assert!(matches!(fault, Fault::WrongOrder { .. }), "{fault}");
    let id = again(&mut fetch);
    let headers = vec![Bytes::from_static(&[0xc1, 1])];
    let fault = blame(&mut fetch, Message::Headers { id, headers });
    assert!(matches!(fault, Fault::BadHeader { .. }), "{fault}");

    let id = again(&mut fetch);
    // Under another id nobody asked for it.
    let unasked = Message::Headers {
        id: id + 7,
        headers: vec![header(5)],
    };
    assert_eq!(fetch.message(PeerId(1), unasked, 0), Ok(()));
    fetch
        .message(
            PeerId(1),
            Message::Headers {
                id,
                headers: vec![header(number)],
            },
            0,
        )
        .unwrap();
    let id = asks(&mut fetch, 0).1;
    let headers = (ERA..number).rev().map(header).collect();
    fetch
        .message(PeerId(1), Message::Headers { id, headers }, 0)
        .unwrap();
    assert!(matches!(fetch.next(0), Next::Begin(_)));

    let id = asks(&mut fetch, 0).1;
    let bodies = vec![body(ERA), body(ERA + 1), body(7)];
    let fault = blame(&mut fetch, Message::Bodies { id, bodies });
    assert!(
        matches!(fault, Fault::BadBody { number: 8194, .. }),
        "{fault}"
    );
    fetch.gone(PeerId(1));
    match fetch.next(0) {
        Next::Keep(blocks) => assert_blocks(&blocks, ERA, ERA + 1),
        other => panic!("{other:?}"),
    }
    // One is left out: what comes behind it is asked for again, of somebody else first.
    fetch.connected(PeerId(1));
    let id = asks(&mut fetch, 0).1;
    fetch.connected(PeerId(2));
    let bodies = vec![body(ERA + 3)];
    assert_eq!(
        fetch.message(PeerId(1), Message::Bodies { id, bodies }, 0),
        Ok(())
    );
    let (peer, _, request) = asks(&mut fetch, 0);
    let first = CHAIN.blocks[ERA as usize + 2].0.hash;
    assert!(matches!(request, Request::Bodies { hashes } if hashes[0] == first));
    assert_eq!(peer, PeerId(2));
}

#[test]
fn a_peer_that_lacks_it_or_says_nothing_is_asked_again_later_and_others_before() {
    let mut fetch = CHAIN.fetch(EPOCH, 0);
    assert!(matches!(fetch.next(0), Next::Wait { until_ms: None }));
    fetch.connected(PeerId(1));
    let (_, id, _) = asks(&mut fetch, 0);
    let nothing = Message::Headers {
        id,
        headers: vec![],
    };
    fetch.message(PeerId(1), nothing, 10).unwrap();
    let Next::Wait {
        until_ms: Some(at_ms),
    } = fetch.next(10)
    else {
        panic!("it is not asked at once again")
    };
    fetch.connected(PeerId(2));
    let (peer, ..) = asks(&mut fetch, 20);
    assert_eq!(peer, PeerId(2));
    let Next::Wait {
        until_ms: Some(due_ms),
    } = fetch.next(21)
    else {
        panic!("one is asked at a time")
    };
    assert!(due_ms > at_ms);
    // It never answers, and is dropped for it the second time. Who comes now is not before those who wait.
    let (peer, ..) = asks(&mut fetch, due_ms);
    assert_eq!(peer, PeerId(1));
    fetch.gone(PeerId(1));
    let (peer, ..) = asks(&mut fetch, 2 * due_ms);
    assert_eq!(peer, PeerId(2));
    fetch.connected(PeerId(3));
    match fetch.next(3 * due_ms) {
        Next::Drop { peer, fault } => {
            assert_eq!(peer, PeerId(2));
            assert!(matches!(fault, Fault::Stalled { .. }), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fetch.peers(), 1);
    fetch.gone(PeerId(3));
    let (_, blocks) = run(&mut fetch, 1024);
    assert_blocks(&blocks, 1, EPOCH);
}

#[test]
fn a_checkpoint_is_typed_as_it_is_printed_and_checked_against_the_chain() {
    let checkpoint = CHAIN.checkpoint(EPOCH);
    assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
    for typed in ["", "64", "64:0x12:129", "64:129", "a:b:c", "1:2:3:4"] {
        let why = typed.parse::<Checkpoint>().unwrap_err();
        assert!(why.contains("NUMBER:HASH:TOTALDIFFICULTY"), "{typed}");
    }
    let wrong = |checkpoint: Checkpoint, genesis: &Genesis, says: &str| {
        let why = checkpoint.check(genesis).unwrap_err();
        assert!(why.contains(says), "{why}");
    };
    let genesis = &CHAIN.genesis;
    assert_eq!(checkpoint.check(genesis), Ok(()));
    wrong(
        Checkpoint {
            number: 0,
            ..checkpoint
        },
        genesis,
        "block 0 needs none",
    );
    wrong(
        Checkpoint {
            number: 65,
            ..checkpoint
        },
        genesis,
        "every 64 blocks",
    );
    for td in [64, 130] {
        let td = U256::from(td);
        wrong(
            Checkpoint { td, ..checkpoint },
            genesis,
            "between 65 and 129",
        );
    }
    wrong(checkpoint, &Genesis::sepolia(), "no clique chain");
}

#[test]
fn peers_are_asked_in_turn_so_that_who_gives_little_costs_only_its_turns() {
    let number = ERA + 2 * EPOCH;
    let mut fetch = CHAIN.fetch(number, 0);
    let mut asked = [0; 5];
    (0..5).for_each(|id| fetch.connected(PeerId(id)));
    for now_ms in 0.. {
        match fetch.next(now_ms) {
            Next::Ask { peer, id, request } => {
                asked[peer.0 as usize] += 1;
                // Only one of them is generous.
                let most = if peer.0 == 3 { 1024 } else { 1 };
                let answer = CHAIN.answer(id, &request, most);
                fetch.message(peer, answer, now_ms).unwrap();
            }
            Next::Done => break,
            Next::Begin(_) | Next::Keep(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        asked.iter().all(|times| (1..=3).contains(times)),
        "{asked:?}"
    );
}

#[test]
fn where_answers_come_too_late_less_is_asked_for() {
    let mut fetch = CHAIN.fetch(ERA, 0);
    let items = |request: Request| match request {
        Request::Headers { amount, .. } => amount,
        other => panic!("{other:?}"),
    };
    fetch.connected(PeerId(1));
    let (_, id, request) = asks(&mut fetch, 0);
    fetch
        .message(PeerId(1), CHAIN.answer(id, &request, 1), 0)
        .unwrap();
    assert_eq!(items(asks(&mut fetch, 0).2), 1024);
    // It is the only one, and asked again.
    let Next::Wait {
        until_ms: Some(due_ms),
    } = fetch.next(1)
    else {
        panic!()
    };
    let Next::Wait {
        until_ms: Some(again_ms),
    } = fetch.next(due_ms)
    else {
        panic!()
    };
    let (_, id, request) = asks(&mut fetch, again_ms);
    fetch
        .message(PeerId(1), CHAIN.answer(id, &request, 1024), again_ms)
        .unwrap();
    assert_eq!(items(request), 512);
    assert_eq!(items(asks(&mut fetch, again_ms).2), 1024);
    // However many say nothing, others are not asked for single ones.
    let mut now_ms = again_ms;
    let mut least = 1024;
    for id in 2..40 {
        fetch.connected(PeerId(id));
        now_ms += due_ms;
        loop {
            match fetch.next(now_ms) {
                Next::Ask { request, .. } => {
                    least = least.min(items(request));
                    break;
                }
                Next::Wait { until_ms } => now_ms = until_ms.unwrap(),
                Next::Drop { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(least, 64);
}

#[test]
fn what_is_settled_is_the_checkpoint_once_it_is_reached_and_what_lies_below_the_first_known_signers()
 {
    let genesis = &CHAIN.genesis;
    let rules = Rules::new(genesis);
    let tip = |number: u64| {
        let headers = &mut |number: u64| Some(CHAIN.blocks[number as usize].0.raw.clone());
        let td = CHAIN.td(number);
        rules.restore(number, td, None, headers).unwrap()
    };
    let trusted = Some(CHAIN.checkpoint(ERA + 2 * EPOCH));
    // Of three signers two headers are needed, and the checkpoint after them.
    for (head, trusted, first_header, expected) in [
        (ERA + 100, None, 0, 0),
        (ERA + 100, None, ERA, ERA + EPOCH),
        (ERA + 100, trusted, ERA, ERA + EPOCH),
        (ERA + 2 * EPOCH, trusted, ERA, ERA + 2 * EPOCH),
        (ERA + 3 * EPOCH, trusted, ERA, ERA + 2 * EPOCH),
        (ERA + 100, trusted, 0, 0),
        (ERA + 3 * EPOCH, trusted, 0, ERA + 2 * EPOCH),
    ] {
        let found = settled(trusted, genesis, &tip(head), first_header);
        assert_eq!(found, expected, "{head} {first_header}");
    }
}
