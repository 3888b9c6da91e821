//! The difficulty that proof-of-work headers must carry (EIPs 2, 100, 649, 1234, 2384, 3554, 4345, 5133).

use alloy_consensus::{Header, constants::EMPTY_OMMER_ROOT_HASH};
use alloy_primitives::U256;

use super::spec::{Fork, Forks};

/// The least difficulty.
const MINIMUM: u64 = 131_072;
/// Difficulty moves in steps of this fraction of the parent's.
const BOUND_DIVISOR: u64 = 2_048;
/// Frontier: a block faster than this many seconds raises the difficulty.
const FRONTIER_DURATION_S: u64 = 13;
/// The bomb doubles every so many blocks.
const BOMB_PERIOD: u64 = 100_000;

/// Difficulty of a block of `number` and `time_s` (later than the parent's) after `parent`, by the rules of `fork`.
pub(crate) fn difficulty(
    fork: Fork,
    forks: &Forks,
    parent: &Header,
    number: u64,
    time_s: u64,
) -> U256 {
    let elapsed_s = time_s.saturating_sub(parent.timestamp);
    let step = parent.difficulty / U256::from(BOUND_DIVISOR);
    let minimum = U256::from(MINIMUM);
    if fork == Fork::Frontier {
        let moved = if elapsed_s < FRONTIER_DURATION_S {
            parent.difficulty.saturating_add(step)
        } else {
            parent.difficulty - step
        };
        return moved.max(minimum).saturating_add(bomb(number));
    }
    let (up, period_s) = if fork < Fork::Byzantium {
        (1, 10)
    } else if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH {
        (1, 9)
    } else {
        (2, 9)
    };
    // max(up - elapsed / period, -99)
    let periods = elapsed_s / period_s;
    let moved = if periods <= up {
        parent
            .difficulty
            .saturating_add(step * U256::from(up - periods))
    } else {
        parent
            .difficulty
            .saturating_sub(step * U256::from((periods - up).min(99)))
    };
    let delay = bomb_delay(fork, forks, number);
    moved
        .max(minimum)
        .saturating_add(bomb(number.saturating_sub(delay)))
}

/// Blocks by which the bomb is put off.
fn bomb_delay(fork: Fork, forks: &Forks, number: u64) -> u64 {
    let passed = |block: Option<u64>| block.is_some_and(|block| block <= number);
    if passed(forks.gray_glacier) {
        11_400_000
    } else if passed(forks.arrow_glacier) {
        10_700_000
    } else if fork >= Fork::London {
        9_700_000
    } else if passed(forks.muir_glacier) {
        9_000_000
    } else if fork >= Fork::Constantinople {
        5_000_000
    } else if fork >= Fork::Byzantium {
        3_000_000
    } else {
        0
    }
}

fn bomb(number: u64) -> U256 {
    match number / BOMB_PERIOD {
        0 | 1 => U256::ZERO,
        periods @ 2..=257 => U256::ONE << (periods - 2),
        // No header can carry so much; and 25 million blocks of proof of work are not to come.
        _ => U256::MAX,
    }
}
