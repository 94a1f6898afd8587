//! A ratio, and how far it can be believed.

use std::fmt;

/// The mean of some ratios.
pub struct Ratio {
    mean: f64,
    /// Two standard errors of the mean.
    doubt: f64,
}

impl Ratio {
    /// From one ratio for each round.
    pub fn of(rounds: &[f64]) -> Ratio {
        let count = rounds.len() as f64;
        let mean = rounds.iter().sum::<f64>() / count;
        let variance = rounds.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Ratio { mean, doubt: 2.0 * (variance / count).sqrt() }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.3} ± {:.3}", self.mean, self.doubt))
    }
}
