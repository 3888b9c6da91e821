//! Rows of figures, each beside its ceiling.

use std::fmt;

/// What was seen, a value a round.
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) const fn new() -> Samples {
        Samples(Vec::new())
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn median(&self) -> f64 {
        middle(self.0.clone())
    }

    /// The median of the ratios, round by round.
    pub(crate) fn over(&self, other: &Samples) -> f64 {
        middle(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Default)]
pub(crate) struct Table(Vec<String>);

impl Table {
    /// A rate, the ceiling over it if it has one (more is better), and what it is to be.
    pub(crate) fn rate(
        &mut self,
        what: &str,
        own: &Samples,
        ceiling: Option<(&str, &Samples)>,
        aim: &str,
    ) {
        let share = |over: &Samples| own.over(over);
        self.add(
            what,
            own,
            ceiling.map(|(name, over)| (name, over, share(over))),
            aim,
        );
    }

    /// A cost, the floor under it if it has one (less is better), and what it is to be.
    pub(crate) fn row(
        &mut self,
        what: &str,
        own: &Samples,
        ceiling: Option<(&str, &Samples)>,
        aim: &str,
    ) {
        let share = |floor: &Samples| floor.over(own);
        self.add(
            what,
            own,
            ceiling.map(|(name, floor)| (name, floor, share(floor))),
            aim,
        );
    }

    /// What was not measured, and why.
    pub(crate) fn not_run(&mut self, what: &str, why: &str) {
        self.push(format!("| {what} | not run: {why} | | | |"));
    }

    fn add(
        &mut self,
        what: &str,
        own: &Samples,
        ceiling: Option<(&str, &Samples, f64)>,
        aim: &str,
    ) {
        self.push(match ceiling {
            Some((name, ceiling, share)) => format!(
                "| {what} | {:.2} | {:.2} ({name}) | {:.0} % | {aim} |",
                own.median(),
                ceiling.median(),
                100.0 * share
            ),
            None => format!("| {what} | {:.2} | | | {aim} |", own.median()),
        });
    }

    fn push(&mut self, row: String) {
        println!("{row}");
        self.0.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | ours | ceiling | of it | aim |")?;
        writeln!(f, "| --- | ---: | ---: | ---: | --- |")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
