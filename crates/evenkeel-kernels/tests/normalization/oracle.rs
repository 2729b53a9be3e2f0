//! Every normalization in plain f64 loops: the meaning that the kernels are tested against.

use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::Shape;

/// What a unit of statistics is.
#[derive(Clone, Copy, Debug)]
pub enum Over {
    /// Batch and positions of a channel.
    Batch,
    /// Positions and channels of a sample's group.
    Group(usize),
    /// Channels of a position.
    Channels,
}

/// A normalization and what is fused with it.
#[derive(Clone, Debug)]
pub struct Norm {
    pub shape: Shape,
    pub over: Over,
    pub centred: bool,
    pub epsilon: f64,
    pub activation: Activation,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub tau: Option<Vec<f32>>,
    pub residual: Option<Vec<f32>>,
    /// Mean and variance of every channel instead of the input's.
    pub given: Option<(Vec<f32>, Vec<f32>)>,
}

/// What [`Norm::backward`] returns.
pub struct Gradients {
    pub dx: Vec<f64>,
    pub dgamma: Vec<f64>,
    pub dbeta: Vec<f64>,
    pub dtau: Vec<f64>,
    pub dresidual: Vec<f64>,
    pub depsilon: f64,
}

fn activate(activation: Activation, z: f64) -> (f64, f64) {
    match activation {
        Activation::Identity => (z, 1.0),
        Activation::Relu => (z.max(0.0), if z > 0.0 { 1.0 } else { 0.0 }),
        Activation::LeakyRelu { slope } => {
            let slope = slope as f64;
            (
                if z > 0.0 { z } else { slope * z },
                if z > 0.0 { 1.0 } else { slope },
            )
        }
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-z).exp());
            (z * s, s * (1.0 + z * (1.0 - s)))
        }
        Activation::Tanh => (z.tanh(), 1.0 - z.tanh() * z.tanh()),
        other => panic!("the oracle does not know {other:?}"),
    }
}

impl Norm {
    fn units(&self) -> usize {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        match self.over {
            Over::Batch => channels,
            Over::Group(groups) => batch * groups,
            Over::Channels => batch * positions,
        }
    }

    fn unit(&self, index: usize) -> usize {
        let Shape {
            positions,
            channels,
            ..
        } = self.shape;
        let (row, channel) = (index / channels, index % channels);
        match self.over {
            Over::Batch => channel,
            Over::Group(groups) => row / positions * groups + channel / (channels / groups),
            Over::Channels => row,
        }
    }

    /// Mean, variance (or mean square) and count of every unit.
    pub fn statistics(&self, x: &[f32]) -> Vec<(f64, f64, f64)> {
        if let Some((mean, variance)) = &self.given {
            return mean
                .iter()
                .zip(variance)
                .map(|(&mean, &variance)| (mean as f64, variance as f64, 1.0))
                .collect();
        }
        let mut units = vec![(0.0, 0.0, 0.0); self.units()];
        for (index, &x) in x.iter().enumerate() {
            let unit = &mut units[self.unit(index)];
            unit.0 += x as f64;
            unit.2 += 1.0;
        }
        for unit in &mut units {
            unit.0 = if self.centred { unit.0 / unit.2 } else { 0.0 };
        }
        for (index, &x) in x.iter().enumerate() {
            let unit = &mut units[self.unit(index)];
            unit.1 += (x as f64 - unit.0).powi(2) / unit.2;
        }
        units
    }

    fn normalized(&self, x: &[f32]) -> Vec<f64> {
        let units = self.statistics(x);
        x.iter()
            .enumerate()
            .map(|(index, &x)| {
                let (mean, variance, _) = units[self.unit(index)];
                (x as f64 - mean) / (variance + self.epsilon).sqrt()
            })
            .collect()
    }

    fn before_activation(&self, normalized: &[f64]) -> Vec<f64> {
        let channels = self.shape.channels;
        normalized
            .iter()
            .enumerate()
            .map(|(index, n)| {
                let residual = self.residual.as_ref().map_or(0.0, |r| r[index] as f64);
                n * self.gamma[index % channels] as f64
                    + self.beta[index % channels] as f64
                    + residual
            })
            .collect()
    }

    pub fn forward(&self, x: &[f32]) -> Vec<f64> {
        let channels = self.shape.channels;
        let z = self.before_activation(&self.normalized(x));
        z.into_iter()
            .enumerate()
            .map(|(index, z)| match &self.tau {
                Some(tau) => z.max(tau[index % channels] as f64),
                None => activate(self.activation, z).0,
            })
            .collect()
    }

    pub fn backward(&self, x: &[f32], dy: &[f32]) -> Gradients {
        let channels = self.shape.channels;
        let units = self.statistics(x);
        let normalized = self.normalized(x);
        let z = self.before_activation(&normalized);
        let mut g = Gradients {
            dx: vec![0.0; x.len()],
            dgamma: vec![0.0; channels],
            dbeta: vec![0.0; channels],
            dtau: vec![0.0; channels],
            dresidual: vec![0.0; x.len()],
            depsilon: 0.0,
        };
        let mut means = vec![(0.0, 0.0); units.len()];
        for index in 0..x.len() {
            let channel = index % channels;
            let dy = dy[index] as f64;
            let dz = match &self.tau {
                Some(tau) if z[index] >= tau[channel] as f64 => dy,
                Some(_) => {
                    g.dtau[channel] += dy;
                    0.0
                }
                None => dy * activate(self.activation, z[index]).1,
            };
            g.dresidual[index] = dz;
            g.dbeta[channel] += dz;
            g.dgamma[channel] += dz * normalized[index];
            let (unit, scaled) = (self.unit(index), dz * self.gamma[channel] as f64);
            means[unit].0 += scaled / units[unit].2;
            means[unit].1 += scaled * normalized[index] / units[unit].2;
            g.depsilon -= 0.5 * scaled * normalized[index] / (units[unit].1 + self.epsilon);
        }
        for index in 0..x.len() {
            let unit = self.unit(index);
            let (_, variance, count) = units[unit];
            let scaled = g.dresidual[index] * self.gamma[index % channels] as f64;
            let mean = if self.centred { means[unit].0 } else { 0.0 };
            let projected = if self.given.is_some() {
                scaled
            } else if count == 1.0 && !self.centred {
                // Without the cancellation of 1 - normalized².
                scaled * self.epsilon / (variance + self.epsilon)
            } else {
                scaled - mean - normalized[index] * means[unit].1
            };
            g.dx[index] = projected / (variance + self.epsilon).sqrt();
        }
        g
    }
}
