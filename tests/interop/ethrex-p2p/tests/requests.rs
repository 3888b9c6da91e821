//! ethrex-p2p and cairn, each dialling the other, over eth/68 to eth/71: every request is answered with the bytes of the chain's
//! file, and a cairn that has nothing catches up from this peer.

use std::path::PathBuf;
use std::sync::LazyLock;

use cairn_interop_ethrex_p2p::cairn::{Cairn, cairn, store, text};
use cairn_interop_ethrex_p2p::chain::{Block, Chain, items, list, without_blooms};
use cairn_interop_ethrex_p2p::peer::{Peer, Session};
use ethrex_common::H256;
use ethrex_p2p::rlpx::Message;
use ethrex_p2p::rlpx::eth::block_access_lists::GetBlockAccessLists;
use ethrex_p2p::rlpx::eth::blocks::{GetBlockBodies, GetBlockHeaders, HashOrNumber};
use ethrex_p2p::rlpx::eth::receipts::{GetReceipts68, GetReceipts70};
use ethrex_p2p::rlpx::eth::transactions::GetPooledTransactions;
use ethrex_rlp::encode::RLPEncode as _;
use tempfile::TempDir;

/// Items of an answer at most.
const ITEMS_LIMIT: u64 = 1024;
const UNKNOWN: H256 = H256([0xab; 32]);

/// A generated clique chain with receipts, longer than an answer may be.
struct Files {
    dir: TempDir,
    chain: Chain,
}

impl Files {
    fn genesis(&self) -> PathBuf {
        self.dir.path().join("genesis.json")
    }

    fn era(&self) -> PathBuf {
        self.dir.path().join("chain.era1")
    }

    /// A data folder of cairn's, with the whole chain or with its genesis alone.
    fn datadir(&self, name: &str, whole: bool) -> PathBuf {
        let datadir = self.dir.path().join(name);
        cairn(&["init", "--datadir", text(&datadir), text(&self.genesis())]);
        if whole {
            cairn(&["import", "--datadir", text(&datadir), text(&self.era())]);
        }
        datadir
    }
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut files = Files {
        dir: TempDir::new().expect("a folder"),
        chain: Chain { blocks: Vec::new() },
    };
    let (out, genesis) = (files.era(), files.genesis());
    let names = ["--out", text(&out), "--genesis", text(&genesis)];
    store(
        &[
            &["generate", "--blocks", "1100", "--txs", "3", "--seed", "9"],
            &names[..],
        ]
        .concat(),
    );
    files.chain = Chain::read(&out);
    files
});

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new()
        .expect("threads")
        .block_on(future);
}

#[test]
fn every_request_of_eth_68_is_answered_with_the_bytes_of_the_chain() {
    answers(68);
}

#[test]
fn every_request_of_eth_69_is_answered_with_the_bytes_of_the_chain() {
    answers(69);
}

#[test]
fn every_request_of_eth_70_is_answered_with_the_bytes_of_the_chain() {
    answers(70);
}

#[test]
fn every_request_of_eth_71_is_answered_with_the_bytes_of_the_chain() {
    answers(71);
}

/// Each side dials the other; this client takes the highest version that cairn announces, so cairn is told to announce one.
fn answers(version: u8) {
    block_on(async {
        let files = &*FILES;
        let datadir = files.datadir(&format!("serves-{version}"), true);
        let listener = Peer::new(&files.genesis(), 1).await;
        let bootnode = listener.listen().await;
        let versions = version.to_string();
        let cairn = Cairn::start(
            &datadir,
            &["--eth-versions", &versions, "--bootnodes", &bootnode],
        );

        let mut taken = listener.session(&cairn.enode).await;
        questions(&mut taken, version, &files.chain).await;
        let dialler = Peer::new(&files.genesis(), 2).await;
        let mut dialled = dialler.dial(&cairn.enode).await;
        questions(&mut dialled, version, &files.chain).await;
        cairn.stop();
    });
}

#[test]
fn without_being_told_cairn_announces_every_version_and_the_highest_is_spoken() {
    block_on(async {
        let files = &*FILES;
        let cairn = Cairn::start(&files.datadir("announces", true), &[]);
        let peer = Peer::new(&files.genesis(), 3).await;
        let mut session = peer.dial(&cairn.enode).await;
        session.versions.sort_unstable();
        assert_eq!(session.versions, [68, 69, 70, 71]);
        let hashes = vec![files.chain.blocks[1].hash];
        let answer = session
            .ask(Message::GetBlockAccessLists(GetBlockAccessLists::new(
                1, hashes,
            )))
            .await;
        assert_eq!(answer, answered(1, &[], &[[0x80]]));
        cairn.stop();
    });
}

#[test]
fn an_empty_cairn_catches_up_from_this_peer_over_eth_69_to_71() {
    // Over eth/68 it does not: there this client says that its total difficulty is zero.
    for version in [69, 70, 71] {
        block_on(async {
            let files = &*FILES;
            let datadir = files.datadir(&format!("follows-{version}"), false);
            let peer = Peer::new(&files.genesis(), 4).await;
            peer.take(&files.chain).await;
            let bootnode = peer.listen().await;
            let versions = version.to_string();
            let cairn = Cairn::start(
                &datadir,
                &["--eth-versions", &versions, "--bootnodes", &bootnode],
            );
            cairn.reaches(&format!("{:#x}", files.chain.blocks[1100].hash));
            cairn.stop();
            let exported = files.dir.path().join(format!("export-{version}.rlp"));
            self::cairn(&["export", "--datadir", text(&datadir), text(&exported), "1"]);
            let exported = std::fs::read(exported).expect("it was written");
            let blocks = files.chain.blocks[1..].iter().map(whole);
            assert!(
                exported == blocks.collect::<Vec<_>>().concat(),
                "the export is not the chain"
            );
        });
    }
}

/// The block as files of blocks hold it.
fn whole(block: &Block) -> Vec<u8> {
    list(&[&[&block.header[..]], &items(&block.body)[..]].concat())
}

/// `[id, flag..., [item, ...]]`.
fn answered<I: AsRef<[u8]>>(id: u64, flags: &[&[u8]], found: &[I]) -> Vec<u8> {
    let id = id.encode_to_vec();
    let found = list(found);
    list(&[&[&id[..]], flags, &[&found[..]]].concat())
}

async fn questions(session: &mut Session, version: u8, chain: &Chain) {
    assert_eq!(session.versions, [version]);
    let mut id = 0;
    headers(session, chain, &mut id).await;

    let hash = |number: u64| chain.blocks[number as usize].hash;
    let lists = [
        vec![hash(chain.head())],
        (1..129).map(hash).collect(),
        (900..1028).rev().map(hash).collect(),
        vec![UNKNOWN],
        vec![UNKNOWN, hash(7), UNKNOWN, hash(0), hash(7)],
        vec![],
    ];
    for hashes in lists {
        let known: Vec<&Block> = hashes.iter().filter_map(|hash| chain.find(*hash)).collect();
        id += 1;
        let answer = session
            .ask(Message::GetBlockBodies(GetBlockBodies::new(
                id,
                hashes.clone(),
            )))
            .await;
        let bodies: Vec<&[u8]> = known.iter().map(|block| &block.body[..]).collect();
        same(&answer, &answered(id, &[], &bodies), "bodies");

        id += 1;
        // The first block that is not there ends the receipts, but not the bodies.
        let known = hashes.iter().map_while(|hash| chain.find(*hash));
        let with: Vec<Vec<u8>> = known.map(|block| block.receipts.clone()).collect();
        let without: Vec<Vec<u8>> = with
            .iter()
            .map(|receipts| without_blooms(receipts))
            .collect();
        let (request, expected) = match version {
            68 => (
                Message::GetReceipts68(GetReceipts68::new(id, hashes.clone())),
                answered(id, &[], &with),
            ),
            69 => (
                Message::GetReceipts69(GetReceipts68::new(id, hashes.clone())),
                answered(id, &[], &without),
            ),
            _ => (
                Message::GetReceipts70(GetReceipts70::new(id, 0, hashes.clone())),
                answered(id, &[&[0x80]], &without),
            ),
        };
        same(&session.ask(request).await, &expected, "receipts");

        if version >= 71 {
            id += 1;
            let lists = vec![[0x80]; hashes.len()]; // none is there
            let answer = session
                .ask(Message::GetBlockAccessLists(GetBlockAccessLists::new(
                    id, hashes,
                )))
                .await;
            same(&answer, &answered(id, &[], &lists), "block access lists");
        }
    }
    if version >= 70 {
        for first in [0, 1, 2, 3] {
            id += 1;
            let request = GetReceipts70::new(id, first as u64, vec![hash(5), hash(6)]);
            let [five, six] = [5, 6].map(|number| without_blooms(&chain.blocks[number].receipts));
            let expected = [list(&items(&five)[first..]), six];
            let answer = session.ask(Message::GetReceipts70(request)).await;
            same(
                &answer,
                &answered(id, &[&[0x80]], &expected),
                "receipts from one on",
            );
        }
    }

    // Its answer goes to this client's pool; a session that it had ended would answer no more.
    session
        .tell(Message::GetPooledTransactions(GetPooledTransactions::new(
            id + 1,
            vec![UNKNOWN],
        )))
        .await;
    headers(session, chain, &mut id).await;
}

async fn headers(session: &mut Session, chain: &Chain, id: &mut u64) {
    let head = chain.head();
    let hash = |number: u64| HashOrNumber::Hash(chain.blocks[number as usize].hash);
    let number = HashOrNumber::Number;
    // Start, amount, skip, reverse; and the number that the start names.
    let questions = [
        (number(1), 192, 0, false, Some(1)),
        (number(0), 1, 0, false, Some(0)),
        (hash(head), 1, 0, false, Some(head)),
        (hash(500), 100, 0, false, Some(500)),
        (HashOrNumber::Hash(UNKNOWN), 10, 0, false, None),
        (number(head), 512, 0, true, Some(head)),
        (number(5), 100, 0, true, Some(5)),
        (number(0), 128, 191, false, Some(0)),
        (hash(1000), 30, 9, true, Some(1000)),
        (number(head - 2), 100, 0, false, Some(head - 2)),
        (number(head + 1), 10, 0, false, None),
        (number(1), 0, 0, false, Some(1)),
        (number(u64::MAX), 3, 0, true, None),
        (number(1), u64::MAX, 0, false, Some(1)),
        (number(7), 3, u64::MAX, false, Some(7)),
    ];
    for (start, amount, skip, reverse, first) in questions {
        *id += 1;
        let request = GetBlockHeaders::new(*id, start, amount, skip, reverse);
        let answer = session.ask(Message::GetBlockHeaders(request)).await;
        let mut expected: Vec<&[u8]> = Vec::new();
        let mut next = first;
        while let Some(number) = next
            && number <= head
            && (expected.len() as u64) < amount.min(ITEMS_LIMIT)
        {
            expected.push(&chain.blocks[number as usize].header);
            let step = skip.checked_add(1);
            next = step.and_then(|step| {
                if reverse {
                    number.checked_sub(step)
                } else {
                    number.checked_add(step)
                }
            });
        }
        let what = format!("headers from {start}, {amount}, skip {skip}, reverse {reverse}");
        same(&answer, &answered(*id, &[], &expected), &what);
    }
}

/// Compares without printing kilobytes.
fn same(answer: &[u8], expected: &[u8], what: &str) {
    let differs = answer.iter().zip(expected).position(|(a, b)| a != b);
    let lengths = (answer.len(), expected.len());
    assert!(
        answer == expected,
        "{what}: (answer, expected) have {lengths:?} bytes; first difference at {differs:?}"
    );
}
