//! The validator's role: when to seal, and on what; who signs is in `signer`.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_consensus::Header;
use alloy_consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_ROOT_HASH};
use alloy_primitives::{B64, B256, Bloom, Bytes, U256};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::chain::body::EMPTY_BODY;
use crate::chain::clique::{DIFFICULTY_IN_TURN, DIFFICULTY_OUT_OF_TURN};
use crate::chain::{HeaderError, Rules, SealedHeader, Tip};
use crate::config::SealerConfig;
use crate::logging::short;
use crate::signer::{SignError, Signer};
use crate::sync::SealedBlock;

/// What the vanity bytes of a sealed block say.
const VANITY: &str = concat!("cairn v", env!("CARGO_PKG_VERSION"));
/// Out of turn, a signer leaves this much for every signer of the majority before its own random wait ends (EIP-225).
const WIGGLE_MS: u64 = 500;

/// A head further ahead of the clock than this is worth a word: peers refuse what is 15 seconds ahead.
const CLOCK_TOLERANCE_S: u64 = 15;
/// How long a sealed block may take to become the head: a commit takes milliseconds, on a slow disk a second.
const REFUSED_WAIT_S: u64 = 10;
/// How soon an external signer that gave no signature is asked again, unless a new head comes first.
const SIGNER_RETRY: Duration = Duration::from_secs(1);
/// How often it is told that it still gives none.
const SIGNER_TOLD: Duration = Duration::from_secs(60);

/// Why a signer cannot seal on a block now. It may on a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// The signer is none of the chain's.
    NotASigner,
    /// It sealed one of the last blocks, and others must seal first.
    SignedRecently,
    /// The period is 0 and no interval was asked for.
    NoPace,
}

/// A block that may be sealed, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The block's time, in seconds since 1970.
    pub time_s: u64,
    /// When to seal it, in milliseconds since 1970: its time, and out of turn a random wait after it.
    pub seal_at_ms: u64,
    /// Is it this signer's turn?
    pub in_turn: bool,
}

/// When `config`'s signer may seal on `parent`. `draw` is any random number, for the wait out of turn.
///
/// # Errors
/// `NotNow` says why it may not.
pub fn slot(parent: &Tip, config: &SealerConfig, now_ms: u64, draw: u64) -> Result<Slot, NotNow> {
    if config.pace_s == 0 {
        return Err(NotNow::NoPace);
    }
    let snapshot = parent.clique.as_ref().ok_or(NotNow::NotASigner)?;
    let number = parent.header.header.number + 1;
    let address = config.signer.address();
    if !snapshot.is_signer(&address) {
        return Err(NotNow::NotASigner);
    }
    if snapshot.signed_recently(number, &address) {
        return Err(NotNow::SignedRecently);
    }
    let time_s = parent
        .header
        .header
        .timestamp
        .saturating_add(config.pace_s)
        .max(now_ms / 1000);
    let in_turn = snapshot.in_turn(number, &address);
    let wait_ms = match in_turn {
        true => 0,
        false => draw % ((snapshot.signers().len() as u64 / 2 + 1) * WIGGLE_MS),
    };
    Ok(Slot {
        time_s,
        seal_at_ms: time_s
            .saturating_mul(1000)
            .max(now_ms)
            .saturating_add(wait_ms),
        in_turn,
    })
}

/// An empty block on `parent`, still without a seal. Its state root is its parent's: a clique block pays no reward, so that is what a
/// client finds that executes it (clique.md).
pub fn unsealed(rules: &Rules, parent: &Tip, slot: Slot) -> Header {
    let before = &parent.header.header;
    let number = before.number + 1;
    let snapshot = parent
        .clique
        .as_ref()
        .expect("a slot is only given on a clique chain");
    let mut extra = VANITY.as_bytes().to_vec();
    extra.resize(32, 0);
    if rules.is_checkpoint(number) {
        for signer in snapshot.signers() {
            extra.extend_from_slice(signer.as_slice());
        }
    }
    extra.extend_from_slice(&[0; 65]);
    let (gas_limit, base_fee_per_gas) = rules.next_gas(before);
    Header {
        parent_hash: parent.header.hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        state_root: before.state_root,
        transactions_root: EMPTY_ROOT_HASH,
        receipts_root: EMPTY_ROOT_HASH,
        logs_bloom: Bloom::ZERO,
        difficulty: U256::from(if slot.in_turn {
            DIFFICULTY_IN_TURN
        } else {
            DIFFICULTY_OUT_OF_TURN
        }),
        number,
        gas_limit,
        gas_used: 0,
        timestamp: slot.time_s,
        extra_data: Bytes::from(extra),
        mix_hash: B256::ZERO,
        nonce: B64::ZERO,
        base_fee_per_gas,
        ..Header::default()
    }
}

/// Has it sealed.
///
/// # Errors
/// Only of an external signer.
pub fn seal(mut header: Header, signer: &Signer) -> Result<SealedBlock, SignError> {
    signer.seal(&mut header)?;
    Ok(SealedBlock {
        header: Arc::new(SealedHeader::from_header(header)),
        body: bytes::Bytes::from_static(EMPTY_BODY),
    })
}

/// Sees that a block sealed on `parent` would obey the chain's rules: a genesis may ask for what no clique block can have,
/// such as Shanghai's withdrawals or a gas limit of 0. Nothing is signed for it.
///
/// # Errors
/// The rule it would break.
pub fn try_out(rules: &Rules, parent: &Tip, config: &SealerConfig) -> Result<(), HeaderError> {
    let Ok(slot) = slot(parent, config, 0, 0) else {
        return Ok(()); // it may not seal now; `run` tells why
    };
    let header = unsealed(rules, parent, slot);
    let header = SealedHeader::to_be_sealed(header, config.signer.address());
    rules.extend(parent, Arc::new(header), None).map(|_| ())
}

/// The sealer's thread: takes heads, gives sealed blocks, until either link is closed. The signing key is wiped when it ends.
///
/// # Errors
/// Only if the system gives no randomness.
pub fn run(
    rules: &Rules,
    config: SealerConfig,
    heads: &Receiver<Tip>,
    sealed: &Sender<SealedBlock>,
) -> Result<(), SealerError> {
    let (mut told, mut clock_told) = (None, None);
    let mut signing = Signing::new(config.signer.reach().err());
    // The block made last. Over its parent there is no other, even if it was not signed, as far as we know, or not taken: whoever signs
    // refuses a second one.
    let mut last: Option<Header> = None;
    let Ok(mut parent) = heads.recv() else {
        return Ok(());
    };
    loop {
        // Only the newest head counts.
        while let Ok(newer) = heads.try_recv() {
            parent = newer;
        }
        let planned = slot(&parent, &config, now_ms(), draw()?);
        let slot = match planned {
            Ok(slot) => slot,
            Err(why) => {
                // Once for each change of reason: `signed recently` is every other block of a busy signer.
                if told.replace(why) != Some(why) && why != NotNow::SignedRecently {
                    log::warn!(
                        "Not sealing signer={} reason=\"{why}\"",
                        config.signer.address()
                    );
                }
                match heads.recv() {
                    Ok(newer) => parent = newer,
                    Err(_) => return Ok(()),
                }
                continue;
            }
        };
        told = None;
        let ahead_s = slot.time_s.saturating_sub(now_ms() / 1000 + config.pace_s);
        if ahead_s >= CLOCK_TOLERANCE_S && clock_told != Some(slot.time_s) {
            clock_told = Some(slot.time_s);
            log::warn!(
                "The head is {ahead_s} s ahead of this machine's clock: sealing waits for it; is the clock right?"
            );
        }
        let wait = Duration::from_millis(slot.seal_at_ms.saturating_sub(now_ms()));
        match heads.recv_timeout(wait) {
            Ok(newer) => parent = newer,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                // The clock may have been set back while we slept: a block of the future is nobody's.
                if now_ms() < slot.time_s.saturating_mul(1000) {
                    continue;
                }
                let header = last
                    .take_if(|last| last.parent_hash == parent.header.hash)
                    .unwrap_or_else(|| unsealed(rules, &parent, slot));
                last = Some(header.clone());
                let block = match seal(header, &config.signer) {
                    Ok(block) => block,
                    Err(why) => {
                        signing.failed(&why);
                        match heads.recv_timeout(SIGNER_RETRY) {
                            Ok(newer) => parent = newer,
                            Err(RecvTimeoutError::Disconnected) => return Ok(()),
                            Err(RecvTimeoutError::Timeout) => {}
                        }
                        continue;
                    }
                };
                signing.done();
                log::info!(
                    "Sealed new block number={} hash={} in_turn={}",
                    block.header.header.number,
                    short(&block.header.hash),
                    block.header.header.difficulty == U256::from(DIFFICULTY_IN_TURN)
                );
                if sealed.send(block).is_err() {
                    return Ok(());
                }
                // The next head is our own block, or a heavier one of somebody else. Should neither come, the slot is
                // planned again: a validator must not wait for ever on a block that was refused.
                match heads.recv_timeout(Duration::from_secs(config.pace_s.max(REFUSED_WAIT_S))) {
                    Ok(newer) => parent = newer,
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                    Err(RecvTimeoutError::Timeout) => {
                        log::warn!(
                            "The block sealed last was not taken: a better chain came; sealing again"
                        );
                    }
                }
            }
        }
    }
}

/// What was told of the signer: it is told once for each reason, and again each minute.
struct Signing {
    told: Option<(String, Instant)>,
}

impl Signing {
    fn new(away: Option<SignError>) -> Signing {
        let mut signing = Signing { told: None };
        if let Some(why) = away {
            signing.failed(&why);
        }
        signing
    }

    fn failed(&mut self, why: &SignError) {
        let why = why.to_string();
        let is_told = |(told, at): &(String, Instant)| *told == why && at.elapsed() < SIGNER_TOLD;
        if !self.told.as_ref().is_some_and(is_told) {
            log::warn!("Not sealing, for want of a signature, until there is one: {why}");
            self.told = Some((why, Instant::now()));
        }
    }

    fn done(&mut self) {
        if self.told.take().is_some() {
            log::info!("The signer signs again");
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

fn draw() -> Result<u64, SealerError> {
    getrandom::u64().map_err(|error| SealerError(error.to_string()))
}

/// The system gives no randomness.
#[derive(Debug)]
pub struct SealerError(String);

impl fmt::Display for SealerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the sealer cannot read the system's randomness: {}",
            self.0
        )
    }
}

impl std::error::Error for SealerError {}

impl fmt::Display for NotNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotNow::NotASigner => {
                "this address is none of the chain's signers; the others must vote it in"
            }
            NotNow::SignedRecently => {
                "this signer sealed one of the last blocks; others must seal first"
            }
            NotNow::NoPace => "the period is 0 and there is no --block-interval-ms",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::Genesis;
    use std::path::Path;

    use crate::secret::SigningKey;
    use crate::signer::External;

    fn signer(byte: u8) -> Signer {
        Signer::Key(SigningKey::from_bytes(&[byte; 32]).unwrap())
    }

    fn config(byte: u8, pace_s: u64) -> SealerConfig {
        SealerConfig {
            signer: signer(byte),
            pace_s,
        }
    }

    fn sealed(rules: &Rules, parent: &Tip, slot: Slot, byte: u8) -> SealedBlock {
        seal(unsealed(rules, parent, slot), &signer(byte)).unwrap()
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
        let (rules, config) = (rules(&[1]), config(1, 7));
        let tip = rules.genesis_tip();
        let early = slot(&tip, &config, 1_000_000, 0).unwrap();
        assert_eq!((early.time_s, early.seal_at_ms), (1007, 1_007_000));
        let late = slot(&tip, &config, 9_000_500, 0).unwrap();
        assert_eq!((late.time_s, late.seal_at_ms), (9000, 9_000_500));
    }

    #[test]
    fn out_of_turn_a_signer_waits_at_random_and_not_as_long_as_half_a_second_for_each_of_the_majority()
     {
        let rules = rules(&[1, 2, 3]);
        let tip = rules.genesis_tip();
        let mut turns = 0;
        for byte in [1, 2, 3] {
            let config = config(byte, 1);
            let waits: Vec<u64> = (0..4000)
                .map(|draw| slot(&tip, &config, 0, draw).unwrap().seal_at_ms - 1_001_000)
                .collect();
            if slot(&tip, &config, 0, 0).unwrap().in_turn {
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
        assert_eq!(slot(&tip, &config(9, 1), 0, 0), Err(NotNow::NotASigner));
        assert_eq!(slot(&tip, &config(1, 0), 0, 0), Err(NotNow::NoPace));
        let first = slot(&tip, &config(1, 1), 0, 0).unwrap();
        let block = sealed(&rules, &tip, first, 1);
        let tip = rules.extend(&tip, block.header, None).unwrap();
        assert_eq!(slot(&tip, &config(1, 1), 0, 0), Err(NotNow::SignedRecently));
        assert!(slot(&tip, &config(2, 1), 0, 0).is_ok());
    }

    #[test]
    fn a_chain_is_tried_out_without_a_signature() {
        let rules = rules(&[1]);
        // Whoever is asked for one here fails.
        let nobody = External::new(Path::new("/nowhere"), signer(1).address(), 1);
        let config = SealerConfig {
            signer: Signer::External(nobody),
            pace_s: 1,
        };
        let tip = rules.genesis_tip();
        assert_eq!(try_out(&rules, &tip, &config), Ok(()));
        // As `a_chain_whose_blocks_its_own_rules_refuse_is_not_sealed` has it on a whole node, a rule that is broken is told.
        let mut broken = tip;
        let header = Header {
            gas_limit: 1,
            ..broken.header.header.clone()
        };
        broken.header = Arc::new(SealedHeader::from_header(header));
        assert!(try_out(&rules, &broken, &config).is_err());
    }

    #[test]
    fn sealed_blocks_obey_the_rules_over_checkpoints_and_with_the_signers_in_turn() {
        let rules = rules(&[1, 2, 3]);
        let mut tip = rules.genesis_tip();
        for number in 1..=20 {
            let (byte, slot) = [1, 2, 3]
                .into_iter()
                .filter_map(|byte| Some((byte, slot(&tip, &config(byte, 1), 0, 0).ok()?)))
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
}
