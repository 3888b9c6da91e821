//! What inspects works on a store that is written to: whatever it says is true of some moment, and it never fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use cairn::generate::{self, Params};
use cairn_store::{NewBlock, Writer};
use common::Fixture;

#[test]
fn every_look_at_a_store_that_grows_is_a_sound_one() {
    let params = Params {
        blocks: 12_000,
        txs_per_block: 0,
        ..Params::default()
    };
    let (generated, blocks) = generate::blocks(&params);
    let blocks: Vec<_> = blocks.collect();
    let store = Fixture::of(generated.genesis, blocks[..100].to_vec());
    let path = store.store();
    let rest = &blocks[100..];
    let stop = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Writer::open(&path).unwrap();
            // Small commits and the settling of the tip come in turn: files are replaced all the time.
            for some in rest.chunks(60) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let new: Vec<NewBlock<'_>> = some
                    .iter()
                    .map(|block| NewBlock {
                        number: block.header.header.number,
                        hash: block.header.hash,
                        td: block.td,
                        header: &block.header.raw,
                        body: &block.body,
                        receipts: None,
                    })
                    .collect();
                let head = some.last().unwrap().header.hash;
                writer.commit(&new, head).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut heads = Vec::new();
        for round in 0.. {
            for args in [
                &["verify", "--deep", "--json"][..],
                &["gaps", "--json"],
                &["stats", "--json"],
                &["info", "--json"],
                &["bench", "--seconds", "0.05", "--json"],
            ] {
                let found = store.run(args).ok().json();
                heads.extend(found["head"]["number"].as_u64());
            }
            if done.load(Ordering::Relaxed) || round == 20 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(heads.is_sorted(), "{heads:?}");
    });
}
