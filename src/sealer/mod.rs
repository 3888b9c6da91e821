//! The validator's role: a thread that seals when it is time, and has what it signs kept before it signs; who signs is in `signer`.

mod block;
mod own;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alloy_consensus::Header;
use alloy_primitives::{Address, U256};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::chain::clique::{DIFFICULTY_IN_TURN, SEAL_BYTES, put_seal};
use crate::chain::{Rules, SealedHeader, Tip};
use crate::config::SealerConfig;
use crate::logging::short;
use crate::proposals::Proposals;
use crate::signed::{Record, Refusal};
use crate::signer::{AnswerError, SignError, Signer};
use crate::sync::SealedBlock;

use block::is_empty_on;
pub use block::{seal, try_out, unsealed};
pub use own::{Own, OwnBoard};
pub use turns::{NotNow, Pace, Slot, Turns};

/// How often it is told that the signer still gives no signature.
const SIGNER_TOLD: Duration = Duration::from_secs(60);

/// The sealer's thread: takes heads (`None`: nothing is to be sealed until the next), gives sealed blocks, until either link is closed. The
/// signing key is wiped when it ends.
///
/// Over one parent it signs one block. What was signed is on the disk before it is signed, so that this holds also for who died
/// meanwhile: the same block is then offered again.
///
/// # Errors
/// If what is signed cannot be kept, or the system gives no randomness.
pub fn run(
    rules: &Rules,
    config: SealerConfig,
    mut record: Record,
    proposals: &Proposals,
    own: &OwnBoard,
    heads: &Receiver<Option<Tip>>,
    sealed: &Sender<SealedBlock>,
) -> Result<(), SealerError> {
    let mut turns = Turns::new(config.pace());
    let mut signing = Signing::new(config.signer.reach().err());
    loop {
        let wait = turns.wait_ms(now_ms()).map(Duration::from_millis);
        let head = match wait {
            Some(wait) => heads.recv_timeout(wait),
            None => heads.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match head {
            Ok(mut head) => {
                // Only the newest counts.
                while let Ok(newer) = heads.try_recv() {
                    head = newer;
                }
                match head {
                    Some(head) => {
                        own.has_parent(head.header.number());
                        turns.handle_head(now_ms(), head, draw()?);
                    }
                    None => turns.handle_behind(),
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let Some((parent, slot)) = turns.handle_timeout(now_ms(), draw()?) else {
            continue;
        };
        let number = parent.header.number() + 1;
        let snapshot = parent.clique.as_deref();
        let draw = draw()?;
        let vote = snapshot.and_then(|snapshot| proposals.pick(snapshot, draw));
        let make = || unsealed(rules, &parent, slot, vote);
        let block = match to_sign(rules, &mut record, &parent, turns.signer(), make)? {
            Ok(header) => sign(rules, &mut record, &parent, &config.signer, header)?,
            Err(why) => Err(why),
        };
        let block = match block {
            Ok(block) => block,
            Err(why) => {
                signing.failed(&why);
                own.is_unsigned(number);
                turns.handle_unsigned(now_ms(), slot);
                continue;
            }
        };
        signing.done();
        own.has_sealed(number);
        log::info!(
            "Sealed new block number={} hash={} in_turn={}",
            block.header.header.number,
            short(&block.header.hash),
            block.header.header.difficulty == U256::from(DIFFICULTY_IN_TURN)
        );
        if sealed.send(block).is_err() {
            return Ok(());
        }
    }
}

/// The header to be signed over `parent`, which the record allows: the one that was kept, or what `make` gives. `Err` inside says why
/// there is none now.
fn to_sign(
    rules: &Rules,
    record: &mut Record,
    parent: &Tip,
    signer: Address,
    make: impl FnOnce() -> Header,
) -> Result<Result<Header, String>, SealerError> {
    let kept = record.over(&parent.header.hash);
    let header = match kept.map_err(SealerError::Record)? {
        None => make(),
        Some(kept) => match why_not_again(rules, parent, &kept, signer, now_ms()) {
            None => kept,
            Some(why) => return Ok(Err(format!("{why} ({})", record.path().display()))),
        },
    };
    match record.allow(&header) {
        Ok(()) => Ok(Ok(header)),
        Err(refusal @ Refusal::NotKept(_)) => Err(SealerError::Record(refusal)),
        Err(refusal) => Ok(Err(refusal.to_string())),
    }
}

/// Has `header` signed; if the signer proves that it signed another one over `parent` before, then it is that one, which somebody may
/// have. `Err` inside says why there is none now.
fn sign(
    rules: &Rules,
    record: &mut Record,
    parent: &Tip,
    signer: &Signer,
    header: Header,
) -> Result<Result<SealedBlock, String>, SealerError> {
    let refusal = match seal(header, signer) {
        Ok(block) => return Ok(Ok(block)),
        Err(refusal) => refusal,
    };
    let told = refusal.to_string();
    let SignError::Answer(path, AnswerError::Signed { kept, .. }) = refusal else {
        return Ok(Err(told));
    };
    // What comes from outside may be anything: of another program's blocks the bodies are not known here.
    let why = match is_empty_on(parent, &kept) {
        true => why_not_again(rules, parent, &kept, signer.address(), now_ms()),
        false => Some(format!(
            "block {} is not an empty one, and its body is not known here; it goes on once another signer's block comes",
            kept.number
        )),
    };
    if let Some(why) = why {
        return Ok(Err(format!("{told}: {why}")));
    }
    let mut unsealed = (*kept).clone();
    put_seal(&mut unsealed, &[0; SEAL_BYTES]);
    record.put_right(&unsealed).map_err(SealerError::Record)?;
    log::warn!(
        "The signer at {} signed block {} over this parent before: it is offered again",
        path.display(),
        kept.number
    );
    Ok(Ok(block::of(*kept)))
}

/// Why a block that was kept over `parent` cannot be offered again. No other is sealed in its place: somebody may have it.
fn why_not_again(
    rules: &Rules,
    parent: &Tip,
    kept: &Header,
    signer: Address,
    now_ms: u64,
) -> Option<String> {
    let number = kept.number;
    let again = SealedHeader::to_be_sealed(kept.clone(), signer);
    if let Err(why) = rules.extend(parent, Arc::new(again), None) {
        return Some(format!(
            "block {number} was signed over this parent before, and the chain's rules refuse it now: {why}; undo what was changed in \
             genesis.json since, or remove the record of what was signed once nobody can have that block"
        ));
    }
    let ahead_s = kept.timestamp.saturating_sub(now_ms / 1000);
    (ahead_s > 0).then(|| {
        format!(
            "block {number} was signed over this parent before, with a time that is {ahead_s} s ahead of this machine's clock now; is the \
             clock right? If it was wrong then, remove the record of what was signed once nobody can have that block"
        )
    })
}

/// What was told of the signer: it is told once for each reason, and again each minute.
struct Signing {
    told: Option<(String, Instant)>,
}

impl Signing {
    fn new(away: Option<SignError>) -> Signing {
        let mut signing = Signing { told: None };
        if let Some(why) = away {
            signing.failed(&why.to_string());
        }
        signing
    }

    fn failed(&mut self, why: &str) {
        let is_told = |(told, at): &(String, Instant)| told == why && at.elapsed() < SIGNER_TOLD;
        if !self.told.as_ref().is_some_and(is_told) {
            log::warn!("Not sealing, for want of a signature, until there is one: {why}");
            self.told = Some((why.into(), Instant::now()));
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
    getrandom::u64().map_err(|error| SealerError::Randomness(error.to_string()))
}

/// Why the sealer ended by itself.
#[derive(Debug)]
pub enum SealerError {
    /// What was to be signed cannot be kept.
    Record(Refusal),
    /// The system gives no randomness.
    Randomness(String),
}

impl fmt::Display for SealerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealerError::Record(why) => why.fmt(f),
            SealerError::Randomness(why) => {
                write!(f, "the sealer cannot read the system's randomness: {why}")
            }
        }
    }
}

impl std::error::Error for SealerError {}

#[cfg(test)]
mod tests;
