//! Ommers: of the last generations, once, and valid.

use std::sync::Arc;

use alloy_primitives::{U256, keccak256};

use super::{london, work_child, work_genesis};
use crate::chain::{OmmerWindow, Rules, SealedHeader, Tip, rlp};

/// A proof-of-work chain that grows by blocks with ommers.
struct Chain {
    rules: Rules,
    tips: Vec<Tip>,
    window: OmmerWindow,
}

impl Chain {
    fn new(length: usize) -> Self {
        let genesis = work_genesis(london());
        let rules = Rules::new(&genesis);
        let mut window = OmmerWindow::new();
        window.push(&genesis.header, &genesis.body);
        let mut chain = Self {
            tips: vec![rules.genesis_tip()],
            rules,
            window,
        };
        for _ in 0..length {
            chain.grow(&[]).unwrap();
        }
        chain
    }

    /// Adds a block with these ommers, or says which field is refused.
    fn grow(&mut self, ommers: &[SealedHeader]) -> Result<(), String> {
        let parent = self.tips.last().unwrap();
        let payload: Vec<u8> = ommers.iter().flat_map(|ommer| ommer.raw.to_vec()).collect();
        let mut list = Vec::new();
        rlp::list_prefix(&mut list, payload.len());
        list.extend_from_slice(&payload);
        let mut body = Vec::new();
        rlp::list_prefix(&mut body, 1 + list.len());
        body.push(0xc0);
        body.extend_from_slice(&list);
        let mut header = work_child(&self.rules, parent);
        header.ommers_hash = keccak256(&list);
        let header = Arc::new(SealedHeader::from_header(header));
        let tip = self
            .rules
            .extend(parent, Arc::clone(&header), None)
            .unwrap();
        let field = |error: crate::chain::BodyError| error.fault().field.clone();
        self.rules.check_body(&header, &body).map_err(field)?;
        self.window
            .check(&self.rules, &header, &body)
            .map_err(field)?;
        self.window.push(&header, &body);
        self.tips.push(tip);
        Ok(())
    }

    /// A valid header after the block of that height, which is not the chain's own.
    fn ommer(&self, parent: usize) -> SealedHeader {
        let mut header = work_child(&self.rules, &self.tips[parent]);
        header.extra_data = "another".into();
        SealedHeader::from_header(header)
    }
}

#[test]
fn ommers_of_six_generations_are_taken_and_no_older_ones() {
    let chain = |parent: usize| {
        let mut chain = Chain::new(20);
        let ommer = chain.ommer(parent);
        chain.grow(&[ommer])
    };
    for parent in 14..=19 {
        assert_eq!(chain(parent), Ok(()), "{parent}");
    }
    assert_eq!(chain(13), Err("uncles[0].parentHash".to_owned()));
    assert_eq!(
        chain(20),
        Err("uncles[0].parentHash".to_owned()),
        "a sibling is no ommer"
    );
}

#[test]
fn an_ommer_is_taken_once() {
    let mut chain = Chain::new(10);
    let ommer = chain.ommer(8);
    assert_eq!(
        chain.grow(&[ommer.clone(), ommer.clone()]),
        Err("uncles[1]".to_owned())
    );
    assert_eq!(chain.grow(std::slice::from_ref(&ommer)), Ok(()));
    assert_eq!(chain.grow(&[ommer]), Err("uncles[0]".to_owned()));
}

#[test]
fn an_ancestor_is_no_ommer() {
    let mut chain = Chain::new(10);
    let ancestor = (*chain.tips[9].header).clone();
    assert_eq!(chain.grow(&[ancestor]), Err("uncles[0]".to_owned()));
}

#[test]
fn a_block_has_two_ommers_at_most() {
    let mut chain = Chain::new(10);
    let ommers = [7, 8, 9].map(|parent| chain.ommer(parent));
    assert_eq!(chain.grow(&ommers), Err("uncles".to_owned()));
    assert_eq!(chain.grow(&ommers[..2]), Ok(()));
}

#[test]
fn an_ommer_obeys_the_rules_of_a_header() {
    let mut chain = Chain::new(10);
    let ommer = |change: fn(&mut alloy_consensus::Header)| {
        let mut header = Chain::new(10).ommer(8).header;
        change(&mut header);
        [SealedHeader::from_header(header)]
    };
    let bad = ommer(|header| header.difficulty += U256::ONE);
    assert_eq!(chain.grow(&bad), Err("uncles[0].difficulty".to_owned()));
    let bad = ommer(|header| header.number += 1);
    assert_eq!(chain.grow(&bad), Err("uncles[0].number".to_owned()));
    let bad = ommer(|header| header.gas_limit *= 2);
    assert_eq!(chain.grow(&bad), Err("uncles[0].gasLimit".to_owned()));
    let bad = ommer(|header| header.base_fee_per_gas = None);
    assert_eq!(chain.grow(&bad), Err("uncles[0].baseFeePerGas".to_owned()));
    assert_eq!(chain.grow(&ommer(|_| {})), Ok(()));
}

#[test]
fn what_a_window_cannot_see_it_does_not_refuse() {
    let mut chain = Chain::new(20);
    let mut window = OmmerWindow::new();
    for tip in &chain.tips[18..] {
        window.push(&tip.header, &[0xc2, 0xc0, 0xc0]);
    }
    let ommer = chain.ommer(15);
    chain.window = window;
    assert_eq!(chain.grow(&[ommer]), Ok(()));
}

#[test]
fn a_block_of_another_branch_starts_the_window_anew() {
    let mut chain = Chain::new(10);
    let old = chain.ommer(8);
    let stranger = chain.ommer(3);
    chain.window.push(&stranger, &[0xc2, 0xc0, 0xc0]);
    let header = Arc::clone(&chain.tips[10].header);
    chain.window.push(&header, &[0xc2, 0xc0, 0xc0]);
    // Blocks 3 to 9 are out of sight now.
    assert_eq!(chain.grow(&[old]), Ok(()));
}
