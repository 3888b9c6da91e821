//! When a signer may seal, and that what it seals obeys the rules.

#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alloy_consensus::Header;
use alloy_primitives::{Address, B256};

use super::*;
use crate::chain::clique::{NONCE_AUTHORISE, NONCE_DROP};
use crate::chain::{Genesis, SealedHeader, clique};
use crate::secret::SigningKey;
use crate::signer::{External, Signer, SignerRole};

fn signer(byte: u8) -> Signer {
    Signer::Key(SigningKey::from_bytes(&[byte; 32]).unwrap())
}

fn pace(byte: u8, pace_s: u64) -> Pace {
    Pace {
        signer: signer(byte).address(),
        pace_s,
    }
}

fn sealed(rules: &Rules, parent: &Tip, slot: Slot, byte: u8) -> SealedBlock {
    seal(unsealed(rules, parent, slot, None), &signer(byte)).unwrap()
}

/// A clique chain at time 1000 whose signers are the keys of these bytes.
fn rules(signers: &[u8]) -> Rules {
    let mut addresses: Vec<_> = signers.iter().map(|byte| signer(*byte).address()).collect();
    addresses.sort();
    let list: String = addresses
        .iter()
        .map(alloy_primitives::hex::encode)
        .collect();
    let json = format!(
        r#"{{"config":{{"chainId":5,"homesteadBlock":0,"eip150Block":0,"eip155Block":0,"eip158Block":0,"byzantiumBlock":0,
        "constantinopleBlock":0,"petersburgBlock":0,"istanbulBlock":0,"berlinBlock":0,"londonBlock":0,
        "clique":{{"period":1,"epoch":4}}}},"difficulty":"0x1","gasLimit":"0x1c9c380","timestamp":"0x3e8",
        "extraData":"0x{}{list}{}","alloc":{{}}}}"#,
        "00".repeat(32),
        "00".repeat(65)
    );
    Rules::new(&Genesis::from_json(json.as_bytes()).unwrap())
}

#[test]
fn a_slot_comes_one_pace_after_the_parent_and_never_before_now() {
    let (rules, pace) = (rules(&[1]), pace(1, 7));
    let tip = rules.genesis_tip();
    let early = pace.slot(&tip, 1_000_000, 0).unwrap();
    assert_eq!((early.time_s, early.seal_at_ms), (1007, 1_007_000));
    let late = pace.slot(&tip, 9_000_500, 0).unwrap();
    assert_eq!((late.time_s, late.seal_at_ms), (9000, 9_000_500));
}

#[test]
fn out_of_turn_a_signer_waits_at_random_and_not_as_long_as_half_a_second_for_each_of_the_majority()
{
    let rules = rules(&[1, 2, 3]);
    let tip = rules.genesis_tip();
    let mut turns = 0;
    for byte in [1, 2, 3] {
        let pace = pace(byte, 1);
        let waits: Vec<u64> = (0..4000)
            .map(|draw| pace.slot(&tip, 0, draw).unwrap().seal_at_ms - 1_001_000)
            .collect();
        if pace.slot(&tip, 0, 0).unwrap().in_turn {
            turns += 1;
            assert!(waits.iter().all(|wait| *wait == 0));
        } else {
            assert_eq!(waits.iter().max(), Some(&999)); // (3 / 2 + 1) * 500 - 1
        }
    }
    assert_eq!(turns, 1);
}

#[test]
fn who_may_not_seal_is_told_why() {
    let rules = rules(&[1, 2]);
    let tip = rules.genesis_tip();
    assert_eq!(pace(9, 1).slot(&tip, 0, 0), Err(NotNow::NotASigner));
    assert_eq!(pace(1, 0).slot(&tip, 0, 0), Err(NotNow::NoPace));
    let first = pace(1, 1).slot(&tip, 0, 0).unwrap();
    let block = sealed(&rules, &tip, first, 1);
    let tip = rules.extend(&tip, block.header, None).unwrap();
    assert_eq!(pace(1, 1).slot(&tip, 0, 0), Err(NotNow::SignedRecently));
    assert!(pace(2, 1).slot(&tip, 0, 0).is_ok());
}

#[test]
fn a_rule_that_no_block_could_obey_is_told_before_any_is_signed() {
    let rules = rules(&[1]);
    let tip = rules.genesis_tip();
    assert_eq!(try_out(&rules, &tip, &pace(1, 1)), Ok(()));
    // As `a_chain_whose_blocks_its_own_rules_refuse_is_not_sealed` has it on a whole node, a rule that is broken is told.
    let mut broken = tip;
    let header = Header {
        gas_limit: 1,
        ..broken.header.header.clone()
    };
    broken.header = Arc::new(SealedHeader::from_header(header));
    assert!(try_out(&rules, &broken, &pace(1, 1)).is_err());
}

#[test]
fn sealed_blocks_obey_the_rules_over_checkpoints_and_with_the_signers_in_turn() {
    let rules = rules(&[1, 2, 3]);
    let mut tip = rules.genesis_tip();
    for number in 1..=20 {
        let (byte, slot) = [1, 2, 3]
            .into_iter()
            .filter_map(|byte| Some((byte, pace(byte, 1).slot(&tip, 0, 0).ok()?)))
            .find(|(_, slot)| slot.in_turn)
            .unwrap();
        let block = sealed(&rules, &tip, slot, byte);
        rules.check_body(&block.header, &block.body).unwrap();
        tip = rules.extend(&tip, block.header.clone(), None).unwrap();
        assert_eq!(
            block.header.header.state_root,
            rules.genesis_tip().header.header.state_root
        );
        assert_eq!(tip.td, U256::from(1 + 2 * number));
    }
}

#[test]
fn a_vote_is_sealed_as_eip_225_writes_it_and_never_at_a_checkpoint() {
    let rules = rules(&[1, 2, 3]);
    let mut tip = rules.genesis_tip();
    let target = signer(4).address();
    for (vote, expected) in [
        (Some((target, true)), (target, NONCE_AUTHORISE)),
        (None, (Address::ZERO, NONCE_DROP)),
        (Some((target, false)), (target, NONCE_DROP)),
        (Some((target, true)), (Address::ZERO, NONCE_DROP)),
    ] {
        let of = |byte: u8| Some((byte, pace(byte, 1).slot(&tip, 0, 0).ok()?));
        let (byte, slot) = [1, 2, 3].into_iter().find_map(of).unwrap();
        let header = unsealed(&rules, &tip, slot, vote);
        let block = seal(header, &signer(byte)).unwrap();
        let header = &block.header.header;
        assert_eq!((header.beneficiary, header.nonce), expected);
        tip = rules.extend(&tip, block.header, None).unwrap();
    }
    assert!(rules.is_checkpoint(tip.header.header.number));
}

#[test]
fn a_block_that_was_signed_and_cannot_be_offered_again_is_told_of_with_what_to_do() {
    let rules = rules(&[1]);
    let tip = rules.genesis_tip();
    let slot = pace(1, 1).slot(&tip, 0, 0).unwrap();
    let kept = unsealed(&rules, &tip, slot, None);
    let at_ms = slot.time_s * 1000;
    let me = signer(1).address();
    assert_eq!(why_not_again(&rules, &tip, &kept, me, at_ms), None);
    let early = why_not_again(&rules, &tip, &kept, me, at_ms - 5_000).unwrap();
    assert!(
        early.contains("5 s ahead") && early.contains("remove the record"),
        "{early}"
    );
    let other = Header {
        gas_limit: 1,
        ..kept
    };
    let broken = why_not_again(&rules, &tip, &other, me, at_ms).unwrap();
    assert!(
        broken.contains("genesis.json") && broken.contains("gasLimit"),
        "{broken}"
    );
}

/// What comes of sealing over the genesis where `cairn signer`, the real one, has signed `kept` over it; and what is then kept of it here.
fn with_signer_that_signed(rules: &Rules, kept: &Header) -> (Result<SealedBlock, String>, Header) {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (
        dir.path().join("s"),
        SigningKey::from_bytes(&[1; 32]).unwrap(),
    );
    let me = key.address();
    let mut theirs = Record::open(&dir.path().join("theirs")).unwrap();
    theirs.allow(kept).unwrap();
    let role = SignerRole::bind(&path, false, key, theirs).unwrap();
    let tip = rules.genesis_tip();
    let slot = pace(1, 1).slot(&tip, now_ms(), 0).unwrap();
    let asked = unsealed(rules, &tip, slot, None);
    let mut ours = Record::open(&dir.path().join("ours")).unwrap();
    ours.allow(&asked).unwrap();
    let external = Signer::External(External::new(&path, me, 60));
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| role.run(&stop).unwrap());
        // One that is busy is asked again, as the sealer does.
        let outcome = loop {
            match sign(rules, &mut ours, &tip, &external, asked.clone()) {
                Ok(Err(why)) if why.contains("in time") => {}
                outcome => break outcome,
            }
        };
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    let outcome = outcome.unwrap();
    let after = ours.over(&tip.header.hash).unwrap().unwrap();
    assert!(outcome.is_ok() || after == asked, "nothing else is kept");
    (outcome, after)
}

#[test]
fn what_a_signer_says_it_signed_before_is_offered_if_it_is_an_empty_block_that_the_rules_allow_now()
{
    let rules = rules(&[1]);
    let tip = rules.genesis_tip();
    let slot = pace(1, 1).slot(&tip, 0, 0).unwrap();
    let fit = unsealed(&rules, &tip, slot, Some((signer(7).address(), true)));
    let (block, kept) = with_signer_that_signed(&rules, &fit);
    let block = block.unwrap();
    rules.extend(&tip, block.header.clone(), None).unwrap();
    assert_eq!(
        clique::unsealed(&block.header.header),
        clique::unsealed(&fit)
    );
    assert_eq!(kept, fit);
    let of = |change: &dyn Fn(&mut Header)| {
        let mut kept = fit.clone();
        change(&mut kept);
        with_signer_that_signed(&rules, &kept).0.unwrap_err()
    };
    for change in [
        (|header| header.transactions_root = B256::repeat_byte(1)) as fn(&mut Header),
        |header| header.state_root = B256::repeat_byte(1),
        |header| header.gas_used = 21_000,
    ] {
        let why = of(&change);
        assert!(
            why.contains("another block over") && why.contains("not an empty one"),
            "{why}"
        );
    }
    let why = of(&|header| header.gas_limit = 1);
    assert!(why.contains("gasLimit"), "{why}");
    let why = of(&|header| header.timestamp = now_ms() / 1000 + 1_000);
    assert!(why.contains("ahead of this machine's clock"), "{why}");
}

#[test]
fn our_turn_is_not_lost_to_a_block_out_of_turn_over_the_same_parent() {
    let rules = rules(&[1, 2, 3]);
    let tip = rules.genesis_tip();
    let bytes = [1, 2, 3];
    let at = |byte: u8| pace(byte, 1).slot(&tip, 0, 0).unwrap();
    let mine = bytes.into_iter().find(|byte| at(*byte).in_turn).unwrap();
    let other = bytes.into_iter().find(|byte| *byte != mine).unwrap();
    let out_of_turn = sealed(&rules, &tip, at(other), other);
    let beside = rules.extend(&tip, out_of_turn.header, None).unwrap();
    let slot = at(mine);
    let mut turns = Turns::new(pace(mine, 1));
    turns.handle_head(0, tip.clone(), 0);
    turns.handle_head(slot.seal_at_ms - 1, beside.clone(), 0);
    let (parent, _) = turns.handle_timeout(slot.seal_at_ms, 0).unwrap();
    assert_eq!(parent.header.hash, tip.header.hash);
    let in_turn = sealed(&rules, &tip, slot, mine);
    let ours = rules.extend(&tip, in_turn.header, None).unwrap();
    assert!(crate::sync::is_better(&ours, &beside));
    // What others seal in their turn, and what is sealed on our block, is gone on from.
    turns.handle_head(slot.seal_at_ms, ours.clone(), 0);
    assert!(
        turns.handle_timeout(slot.seal_at_ms + 100_000, 0).is_none(),
        "signed recently"
    );
    // Out of turn there is nothing to keep.
    let mut turns = Turns::new(pace(other, 1));
    turns.handle_head(0, tip, 0);
    turns.handle_head(1, beside.clone(), 0);
    let next = turns.handle_timeout(slot.seal_at_ms + 100_000, 0);
    assert!(next.is_none_or(|(parent, _)| parent.header.hash == beside.header.hash));
}

#[test]
fn nothing_is_sealed_while_a_better_chain_is_known_and_then_as_if_it_had_not_been() {
    let rules = rules(&[1, 2, 3]);
    let tip = rules.genesis_tip();
    let at = |byte: u8| pace(byte, 1).slot(&tip, 0, 700).unwrap();
    let mine = [1, 2, 3]
        .into_iter()
        .find(|byte| at(*byte).in_turn)
        .unwrap();
    let other = [1, 2, 3].into_iter().find(|byte| *byte != mine).unwrap();
    let due_ms = at(other).seal_at_ms;

    // Out of turn, the wait goes on where the better chain came to nothing in time, and begins anew where it did not.
    let mut turns = Turns::new(pace(other, 1));
    turns.handle_head(0, tip.clone(), 700);
    turns.handle_behind();
    assert_eq!(turns.deadline_ms(), None);
    assert!(turns.handle_timeout(due_ms, 0).is_none());
    turns.handle_head(due_ms - 1, tip.clone(), 900);
    assert_eq!(turns.deadline_ms(), Some(due_ms));
    turns.handle_behind();
    turns.handle_head(due_ms + 5_000, tip.clone(), 900);
    assert_eq!(turns.deadline_ms(), Some(due_ms + 5_900));

    // What was sealed and let go is offered again at once, and not when its time to become the head is over.
    assert!(turns.handle_timeout(due_ms + 5_900, 0).is_some());
    turns.handle_behind();
    turns.handle_head(due_ms + 6_000, tip.clone(), 100);
    let again = turns.handle_timeout(due_ms + 6_100, 0);
    assert_eq!(again.unwrap().0.header.hash, tip.header.hash);

    // A turn is not lost to a block out of turn, even if that had to be fetched.
    let out_of_turn = sealed(&rules, &tip, at(other), other);
    let beside = rules.extend(&tip, out_of_turn.header, None).unwrap();
    let mut turns = Turns::new(pace(mine, 1));
    turns.handle_head(0, tip.clone(), 0);
    turns.handle_behind();
    let slot = at(mine);
    assert!(turns.handle_timeout(slot.seal_at_ms, 0).is_none());
    turns.handle_head(slot.seal_at_ms + 20, beside, 0);
    let (parent, _) = turns.handle_timeout(slot.seal_at_ms + 20, 0).unwrap();
    assert_eq!(parent.header.hash, tip.header.hash);

    // So does one that had no signature.
    let mut turns = Turns::new(pace(mine, 1));
    turns.handle_head(0, tip.clone(), 0);
    let (_, slot) = turns.handle_timeout(slot.seal_at_ms, 0).unwrap();
    turns.handle_behind();
    turns.handle_unsigned(slot.seal_at_ms, slot);
    assert_eq!(turns.deadline_ms(), None);
}
