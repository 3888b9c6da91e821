//! How far headers are on their way from a trusted hash down, as it is shown.

use std::cell::RefCell;

use super::Dice;
use super::chain::{Chain, STAKE, STAKE_RULES, stake};
use super::peer::Nature;
use super::runs::{config, peer};
use super::world::World;
use crate::standing::LastBlocks;
use crate::status::{Board, Figures, Phase, Writer};

/// The figures at every step of a run to the head of `target`, from block `number` of the chain.
fn shown(number: u64, target: &Chain) -> Vec<Figures> {
    let hash = target.last().unwrap().header.hash;
    let mut config = config();
    config.sync_target = Some(hash);
    let mut world = World::new(1, STAKE_RULES.clone(), &STAKE, number, config);
    world.join(0, peer(1, Nature::Honest, target, 69, &mut Dice::new(1)));
    let board = Writer::from_last(
        Board::default(),
        world.machine.tip(),
        LastBlocks::default(),
        None,
    );
    let seen = RefCell::new((board, Vec::new()));
    let done = world.run(240_000, |world| {
        let (board, figures) = &mut *seen.borrow_mut();
        let machine = &world.machine;
        let (status, is_caught_up) = (machine.status(), machine.is_caught_up());
        figures.push(board.show(world.now_ms, machine.tip(), &status, is_caught_up, None));
        world.head() == hash
    });
    assert!(done, "{:?}", world.machine.status());
    seen.into_inner().1
}

#[test]
fn while_headers_fall_it_is_shown_how_many_of_how_many_have_come_and_how_fast() {
    let figures = shown(40, &STAKE);
    let falling: Vec<&Figures> = figures
        .iter()
        .filter(|figures| figures.falling.is_some())
        .collect();
    let mut fetched: Vec<u64> = falling
        .iter()
        .map(|figures| figures.falling.unwrap().fetched)
        .collect();
    assert!(fetched.is_sorted(), "{fetched:?}");
    fetched.dedup();
    let all = STAKE.last().unwrap().number() - 40;
    assert!(fetched.len() > 10, "in sixteens: {fetched:?}");
    assert!(
        fetched
            .last()
            .is_some_and(|last| last + 16 >= all && *last < all)
    );
    for figures in falling {
        let falling = figures.falling.unwrap();
        assert_eq!(falling.all, Some(all));
        assert_eq!(figures.phase, Phase::FallingHeaders, "{figures:?}");
        assert_eq!((figures.number, figures.blocks_per_s), (40, 0.0));
        assert!(figures.headers_per_s > 0.0 && figures.left_s().is_some());
    }
    let last = figures.last().unwrap();
    assert_eq!((last.falling, last.headers_per_s > 0.0), (None, true));
}

#[test]
fn headers_that_fall_below_our_head_are_counted_though_nobody_knows_how_many_they_are() {
    let other = stake(&STAKE, 100, 300, 77);
    let figures = shown(200, &other);
    let falling = figures.iter().filter_map(|figures| figures.falling);
    let (above, below): (Vec<_>, Vec<_>) = falling.partition(|falling| falling.all.is_some());
    assert!(
        above
            .iter()
            .all(|falling| falling.all == Some(100) && falling.fetched < 100)
    );
    assert!(
        below
            .iter()
            .all(|falling| (100..200).contains(&falling.fetched))
    );
    assert!(!above.is_empty() && !below.is_empty());
}
