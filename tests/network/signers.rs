//! Networks of signers alone, of which some are killed: whether they stand still when they must, and how soon they go on.

use std::time::{Duration, Instant};

use super::dice::Dice;
use super::fleet::{Cut, Fleet};
use super::relay::Line;

/// How often the heads are looked at where pauses are measured.
const LOOK: Duration = Duration::from_millis(50);

/// With a period of one second a majority of up to seven takes three seconds for a block: two of them are the longest wait out of turn.
const STILL: Duration = Duration::from_secs(6);
/// What signers may take to find each other again, and to seal: dials are up to half a minute apart, and the machine may have other work.
const RESUME_S: u64 = 120;

/// Each dials all others.
pub fn mesh(signers: usize) -> Vec<Line> {
    let pairs = (0..signers).flat_map(|from| (0..signers).map(move |to| (from, to)));
    pairs.filter(|(from, to)| from != to).collect()
}

/// All start, and go on.
pub fn start(fleet: &mut Fleet) {
    (0..fleet.count()).for_each(|place| fleet.start(place));
    fleet.note("all are started");
    fleet.wait_all("they seal", RESUME_S, 3);
}

/// So many are killed that the rest are no majority: they stand still on one head, until the others are back.
pub fn no_majority(fleet: &mut Fleet, dice: &mut Dice) {
    let all: Vec<usize> = (0..fleet.signers).collect();
    let left = dice.some(&all, fleet.signers / 2);
    let killed: Vec<usize> = all
        .iter()
        .copied()
        .filter(|place| !left.contains(place))
        .collect();
    fleet.note(&format!("kill {killed:?}"));
    killed.iter().for_each(|place| fleet.kill(*place));
    // Each of those who are left may seal one block more.
    let (mut heads, mut since) = (Vec::new(), Instant::now());
    fleet.wait("without a majority they stand still", 60, |fleet| {
        let now: Vec<_> = (left.iter())
            .map(|place| fleet.head(*place).unwrap().hash)
            .collect();
        let is_one = now.iter().all(|head| *head == now[0]);
        if !is_one || now != heads {
            (heads, since) = (now, Instant::now());
        }
        since.elapsed() >= STILL
    });
    // Who was killed may have stored a block that nobody else has.
    let top = fleet.top(&all);
    fleet.note("start them again");
    killed.iter().for_each(|place| fleet.start(*place));
    let resumed = fleet.wait("a block is sealed", RESUME_S, |fleet| fleet.top(&all) > top);
    let agreed = fleet.wait_all("all are on one chain", RESUME_S, 2);
    fleet.note(&format!(
        "{} signers, a majority is back: the first block after {:.1} s, one chain after {:.1} s more",
        fleet.signers,
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
    let apart = dice.between_ms(1_000, 6_000);
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
    fleet.wait("a block is sealed", RESUME_S, |fleet| {
        fleet.top(&all) > before + 1
    });
    fleet.wait_all("all are on one chain", RESUME_S, 2);
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
