//! Reuses images together with the teacher's outputs, because a teacher may cost more than its student.

use tch::Tensor;

use super::teacher::Answer;
use crate::error::Result;

/// Most bytes that are kept, over all replicas.
const BYTES_MAX: usize = 2 << 30;

/// Batches with their teacher's answers, to draw images from.
pub struct Replay {
    bytes_max: usize,
    kept: Vec<Kept>,
    random: fastrand::Rng,
}

struct Kept {
    /// 8-bit RGB, `[batch, size, size, 3]`.
    rgb: Tensor,
    answer: Answer,
}

impl Kept {
    fn tensors(&self) -> Vec<&Tensor> {
        [vec![&self.rgb], self.answer.tensors()].concat()
    }
}

impl Replay {
    /// An empty one, for one of so many `replicas`.
    pub fn new(replicas: usize, seed: u64) -> Replay {
        Replay { bytes_max: BYTES_MAX / replicas, kept: Vec::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// Keeps a batch, in place of a random one if memory is used up. Batches of another shape are forgotten.
    pub fn keep(&mut self, rgb: &Tensor, answer: &Answer) {
        self.kept.retain(|kept| kept.rgb.size() == rgb.size());
        let tensors = answer.tensors().into_iter().map(Tensor::shallow_clone).collect();
        let kept = Kept { rgb: rgb.shallow_clone(), answer: answer.with(tensors) };
        let bytes: usize = kept.tensors().iter().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum();
        if self.kept.is_empty() || (self.kept.len() + 1) * bytes <= self.bytes_max {
            self.kept.push(kept);
        } else {
            let place = self.random.usize(..self.kept.len());
            self.kept[place] = kept;
        }
    }

    /// A batch whose images, with their answers, are of different batches; `None` if none is kept.
    ///
    /// # Errors
    ///
    /// libtorch's: no memory.
    pub fn draw(&mut self) -> Result<Option<(Tensor, Answer)>> {
        let Some(first) = self.kept.first() else { return Ok(None) };
        let images = first.rgb.size()[0];
        let picks: Vec<_> =
            (0..images).map(|_| self.kept[self.random.usize(..self.kept.len())].tensors()).collect();
        let mut mixed = (0..picks[0].len()).map(|index| {
            let rows: Vec<Tensor> =
                (0..images).zip(&picks).map(|(row, from)| from[index].narrow(0, row, 1)).collect();
            Tensor::f_cat(&rows, 0)
        });
        let Some(rgb) = mixed.next().transpose()? else { return Ok(None) };
        Ok(Some((rgb, first.answer.with(mixed.collect::<std::result::Result<_, _>>()?))))
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::super::teacher::Places;
    use super::*;

    /// Two images, whose pixels and answers are their number.
    fn batch(first: i64) -> (Tensor, Answer) {
        let of = |shape: &[i64]| {
            let values = Tensor::from_slice(&[first, first + 1]).view([2, 1, 1, 1]);
            values.expand([&[2], shape].concat(), false).contiguous()
        };
        let floats = |shape: &[i64]| of(shape).to_kind(Kind::Float);
        let places =
            Places::Boxes { logits: floats(&[1, 3, 5]).squeeze_dim(1), ltrb: floats(&[1, 5, 4]).squeeze_dim(1) };
        (of(&[8, 8, 3]).to_kind(Kind::Uint8), Answer { places, maps: vec![floats(&[4, 2, 2])] })
    }

    #[test]
    fn images_keep_their_answers_and_change_their_company() {
        let mut replay = Replay::new(1, 1);
        assert!(replay.draw().unwrap().is_none());
        for first in [0, 10, 20, 30] {
            let (rgb, answer) = batch(first);
            replay.keep(&rgb, &answer);
        }
        let mut company = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let (rgb, answer) = replay.draw().unwrap().unwrap();
            assert_eq!(rgb.size(), [2, 8, 8, 3]);
            let number = |tensor: &Tensor, row: i64| {
                tensor.narrow(0, row, 1).to_kind(Kind::Float).mean(None).double_value(&[])
            };
            for row in 0..2 {
                assert!(answer.tensors().iter().all(|tensor| number(tensor, row) == number(&rgb, row)));
            }
            company.insert((number(&rgb, 0) as i64, number(&rgb, 1) as i64));
        }
        assert!(company.len() > 8, "{company:?}");
    }

    #[test]
    fn memory_has_an_end_and_other_sizes_are_forgotten() {
        let (rgb, answer) = batch(0);
        let bytes = 2 * (8 * 8 * 3 + 4 * (3 * 5 + 5 * 4 + 4 * 2 * 2));
        let mut replay = Replay { bytes_max: 3 * bytes + 1, ..Replay::new(1, 1) };
        (0..10).for_each(|_| replay.keep(&rgb, &answer));
        assert_eq!(replay.kept.len(), 3);
        replay.keep(&rgb.narrow(1, 0, 4), &answer);
        assert_eq!(replay.kept.len(), 1);
        assert_eq!(replay.draw().unwrap().unwrap().0.size(), [2, 4, 8, 3]);
    }
}
