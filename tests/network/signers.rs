//! Networks of signers alone, of which some are killed: whether they stand still when they must, and how soon they go on.

use std::time::{Duration, Instant};

use super::dice::Dice;
use super::fleet::{Cut, Fleet};
use super::relay::Line;

/// How often the heads are looked at where pauses are measured.
const LOOK: Duration = Duration::from_millis(50);

/// Each dials all others.
pub fn mesh(signers: usize) -> Vec<Line> {
    let pairs = (0..signers).flat_map(|from| (0..signers).map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// All start, and go on.
pub fn start(fleet: &mut Fleet) {
    (0..fleet.count()).for_each(|place| fleet.start(place));
    fleet.note("all are started");
    fleet.wait_all("they seal", 30, 5);
}

/// So many are killed that the rest are no majority: they stand still on one head, until the others are back.
pub fn no_majority(fleet: &mut Fleet, dice: &mut Dice) {
    let all: Vec<usize> = (0..fleet.signers).collect();
    let killed = dice.some(&all, fleet.signers / 2);
    let left: Vec<usize> = all
        .iter()
        .copied()
        .filter(|place| !killed.contains(place))
        .collect();
    fleet.note(&format!("kill {killed:?}"));
    killed.iter().for_each(|place| fleet.kill(*place));
    let before = fleet.top(&left);
    // Each of them may seal one block more.
    fleet.pass(Duration::from_secs(8));
    let still = fleet.top(&left);
    fleet.pass(Duration::from_secs(12));
    let now = fleet.top(&left);
    fleet.note(&format!(
        "without a majority: {before} when they were killed, {still} after 8 s, {now} after 20 s"
    ));
    if now != still || now > before + left.len() as u64 {
        fleet.fail("signers who are no majority seal on");
    }
    let heads: Vec<_> = left
        .iter()
        .map(|place| fleet.head(*place).unwrap().hash)
        .collect();
    if heads.iter().any(|head| *head != heads[0]) {
        fleet.fail("they stand still on different heads");
    }
    fleet.note("start them again");
    killed.iter().for_each(|place| fleet.start(*place));
    let resumed = fleet.wait("a block is sealed", 60, |fleet| fleet.top(&all) > now);
    let agreed = fleet.wait_all("all are on one chain", 60, 2);
    fleet.note(&format!(
        "a majority is back: the first block after {:.1} s, one chain after {:.1} s more",
        resumed.as_secs_f64(),
        agreed.as_secs_f64()
    ));
}

/// They are cut in two so that neither side is a majority: both come to stand, and joined they go on, whatever each has sealed alone.
pub fn halves(fleet: &mut Fleet, dice: &mut Dice) {
    let all: Vec<usize> = (0..fleet.signers).collect();
    let half = dice.some(&all, fleet.signers / 2);
    let cut = dice.pick(&Cut::ALL);
    let crosses = |line: &&Line| half.contains(&line.0) != half.contains(&line.1);
    let lines: Vec<Line> = fleet.lines.iter().filter(crosses).copied().collect();
    fleet.note(&format!("cut off {half:?}: {cut:?}"));
    lines.iter().for_each(|line| fleet.cut(*line, cut));
    let apart = dice.between_ms(1_000, 12_000);
    fleet.pass(apart);
    let before = fleet.top(&all);
    let tds: Vec<_> = all
        .iter()
        .map(|place| fleet.head(*place).unwrap())
        .collect();
    let heads: Vec<String> = tds
        .iter()
        .map(|head| format!("{} td {}", head.number, head.td))
        .collect();
    fleet.note(&format!("joined: they stand at {}", heads.join(", ")));
    lines.iter().for_each(|line| fleet.join(*line, cut));
    fleet.wait("a block is sealed", 60, |fleet| {
        fleet.top(&all) > before + 1
    });
    fleet.wait_all("all are on one chain", 60, 2);
}

/// One after the other is killed and comes back, never so many at once that the rest are no majority.
pub fn one_after_another(fleet: &mut Fleet, dice: &mut Dice, time: Duration) {
    let all: Vec<usize> = (0..fleet.signers).collect();
    let start = Instant::now();
    let (mut next_kill, mut back) = (start, Vec::<(Instant, usize)>::new());
    let (first, mut top, mut moved) = (fleet.top(&all), fleet.top(&all), Instant::now());
    let (mut pauses, mut kills) = (Vec::new(), 0);
    while start.elapsed() < time {
        let now = Instant::now();
        while let Some(at) = back.iter().position(|(due, _)| *due <= now) {
            fleet.start(back.remove(at).1);
        }
        if now >= next_kill {
            next_kill = now + Duration::from_secs(10);
            let running: Vec<usize> = all
                .iter()
                .copied()
                .filter(|place| fleet.is_running(*place))
                .collect();
            if running.len() > fleet.signers / 2 + 1 {
                let place = dice.pick(&running);
                fleet.kill(place);
                kills += 1;
                back.push((now + dice.between_ms(1_000, 15_000), place));
            }
        }
        let number = fleet.top(&all);
        if number > top {
            pauses.push(moved.elapsed());
            (top, moved) = (number, now);
        }
        fleet.pass(LOOK);
    }
    pauses.push(moved.elapsed());
    back.into_iter().for_each(|(_, place)| fleet.start(place));
    fleet.wait_all("all are on one chain", 60, 2);
    pauses.sort();
    let blocks = top - first;
    let seconds = time.as_secs();
    fleet.note(&format!(
        "{kills} kills in {seconds} s: {blocks} blocks, the longest pause {:.1} s, a tenth longer than {:.1} s",
        pauses[pauses.len() - 1].as_secs_f64(),
        pauses[pauses.len() * 9 / 10].as_secs_f64(),
    ));
}

/// Reorganisations that the logs tell of, by how many blocks gave way.
pub fn tell_reorgs(fleet: &mut Fleet) {
    let mut depths = std::collections::BTreeMap::<u64, usize>::new();
    for place in 0..fleet.count() {
        for line in fleet.lines_with(place, "Chain reorg detected") {
            let (_, rest) = line.split_once(" drop=").unwrap();
            let depth = rest.split(' ').next().unwrap().parse().unwrap();
            *depths.entry(depth).or_default() += 1;
        }
    }
    fleet.note(&format!(
        "reorganisations by blocks dropped, in all logs: {depths:?}"
    ));
}
