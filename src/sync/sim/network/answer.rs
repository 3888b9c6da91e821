//! What a node of the network answers, from its store.

use alloy_primitives::B256;
use cairn_net::eth::message::{Message, Request, Start};

use super::Store;

pub(super) fn answer(store: &Store, id: u64, request: &Request) -> Message {
    let place = |hash: &B256| store.0.iter().position(|block| block.0 == *hash);
    match request {
        Request::Headers {
            start,
            amount,
            reverse,
            ..
        } => {
            let first = match start {
                Start::Number(number) => usize::try_from(*number).ok(),
                Start::Hash(hash) => place(hash),
            };
            let mut headers = Vec::new();
            let mut next = first;
            while let Some(block) = next.and_then(|at| store.0.get(at)) {
                if headers.len() as u64 == *amount {
                    break;
                }
                headers.push(block.1.clone());
                next = next.and_then(|at| {
                    if *reverse {
                        at.checked_sub(1)
                    } else {
                        Some(at + 1)
                    }
                });
            }
            Message::Headers { id, headers }
        }
        Request::Bodies { hashes } => {
            let bodies = hashes
                .iter()
                .filter_map(place)
                .map(|at| store.0[at].2.clone())
                .collect();
            Message::Bodies { id, bodies }
        }
        Request::Receipts { .. } | Request::BlockAccessLists { .. } => panic!("never asked for"),
    }
}
