//! Medians, spreads, and what a ratio of two medians is worth.

use fastrand::Rng;

/// A number with the range in which it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Median with the first and third quartile. 0 for no values.
pub(crate) fn median(values: &[f64]) -> Estimate {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Estimate {
        value: quantile(&sorted, 0.5),
        low: quantile(&sorted, 0.25),
        high: quantile(&sorted, 0.75),
    }
}

/// Median of `of` divided by median of `over`, with the interval that holds
/// it with 95 % probability. The n-th values belong together, since they were
/// measured one after the other: the bootstrap draws them in pairs.
pub(crate) fn ratio(of: &[f64], over: &[f64]) -> Estimate {
    const DRAWS: usize = 1000;
    let rounds = of.len().min(over.len());
    let mut rng = Rng::with_seed(1);
    let mut ratios: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<usize> = (0..rounds).map(|_| rng.usize(..rounds)).collect();
            let at = |values: &[f64]| drawn.iter().map(|n| values[*n]).collect::<Vec<_>>();
            median(&at(of)).value / median(&at(over)).value
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    Estimate {
        value: median(of).value / median(over).value,
        low: quantile(&ratios, 0.025),
        high: quantile(&ratios, 0.975),
    }
}

/// Linear between the two nearest.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let at = last as f64 * q;
    let below = sorted[at.floor() as usize];
    let above = sorted[at.ceil() as usize];
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_lies_between_its_quartiles() {
        let estimate = median(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!(
            (estimate.low, estimate.value, estimate.high),
            (2.0, 3.0, 4.0)
        );
        assert_eq!(median(&[1.0, 2.0]).value, 1.5);
        assert_eq!(median(&[]).value, 0.0);
    }

    #[test]
    fn ratio_of_what_varies_together_is_sharp() {
        let of: Vec<f64> = (10..60).map(f64::from).collect();
        let over: Vec<f64> = of.iter().map(|n| n * 2.0).collect();
        let sharp = ratio(&of, &over);
        assert_eq!((sharp.low, sharp.value, sharp.high), (0.5, 0.5, 0.5));
    }

    #[test]
    fn ratio_of_what_varies_alone_has_an_interval() {
        let of: Vec<f64> = (10..60).map(f64::from).collect();
        let over: Vec<f64> = of.iter().rev().copied().collect();
        let wide = ratio(&of, &over);
        assert!(wide.low < 0.95 && 1.05 < wide.high, "{wide:?}");
    }
}
