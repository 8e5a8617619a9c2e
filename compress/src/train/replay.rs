//! Reuses images together with the teacher's outputs, because a teacher may cost more than its student. If the first
//! layers of the student are frozen, their output maps are kept instead of the images.

use tch::Tensor;

use super::teacher::TeacherOutput;
use crate::error::Result;

/// The input of a student's forward pass.
pub enum StudentInput {
    /// 8-bit RGB, `[batch, size, size, 3]`.
    Images(Tensor),
    /// The output maps of its frozen layers.
    Frozen {
        /// See [`Replica::frozen_maps`](super::model::Replica::frozen_maps).
        maps: Vec<Tensor>,
        /// The images' side in pixels.
        size: usize,
    },
}

impl StudentInput {
    /// The images' side in pixels.
    pub fn size(&self) -> usize {
        match self {
            StudentInput::Images(rgb) => rgb.size()[1] as usize,
            StudentInput::Frozen { size, .. } => *size,
        }
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            StudentInput::Images(rgb) => vec![rgb],
            StudentInput::Frozen { maps, .. } => maps.iter().collect(),
        }
    }

    /// The same kind with other tensors, in the order of [`StudentInput::tensors`]. Takes as many of `tensors` as it
    /// needs.
    fn with(&self, tensors: &mut dyn Iterator<Item = Tensor>) -> StudentInput {
        match self {
            StudentInput::Images(_) => StudentInput::Images(tensors.next().unwrap_or_default()),
            StudentInput::Frozen { maps, size } => {
                StudentInput::Frozen { maps: tensors.take(maps.len()).collect(), size: *size }
            }
        }
    }
}

/// Batches with the teacher's outputs, from which images are drawn.
pub struct Replay {
    bytes_max: usize,
    kept: Vec<Kept>,
    random: fastrand::Rng,
}

struct Kept {
    input: StudentInput,
    output: TeacherOutput,
}

impl Kept {
    fn tensors(&self) -> Vec<&Tensor> {
        [self.input.tensors(), self.output.tensors()].concat()
    }
}

impl Replay {
    /// An empty store that keeps at most this many bytes.
    pub fn new(bytes_max: usize, seed: u64) -> Replay {
        Replay { bytes_max, kept: Vec::new(), random: fastrand::Rng::with_seed(seed) }
    }

    /// Stores a batch, in place of a random one if the memory is full. Batches with another image size are dropped.
    pub fn keep(&mut self, input: &StudentInput, output: &TeacherOutput) {
        self.kept.retain(|kept| kept.input.size() == input.size());
        let clones = |tensors: Vec<&Tensor>| tensors.into_iter().map(Tensor::shallow_clone).collect::<Vec<_>>();
        let input_of = input.with(&mut clones(input.tensors()).into_iter());
        let kept = Kept { input: input_of, output: output.with(clones(output.tensors())) };
        let bytes: usize = kept.tensors().iter().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum();
        if self.kept.is_empty() || (self.kept.len() + 1) * bytes <= self.bytes_max {
            self.kept.push(kept);
        } else {
            let place = self.random.usize(..self.kept.len());
            self.kept[place] = kept;
        }
    }

    /// A batch of images from different batches, with the teacher's outputs; `None` if nothing is stored.
    ///
    /// # Errors
    ///
    /// libtorch's, such as out of memory.
    pub fn draw(&mut self) -> Result<Option<(StudentInput, TeacherOutput)>> {
        let Some(first) = self.kept.first() else { return Ok(None) };
        let images = first.output.images();
        let picks: Vec<_> =
            (0..images).map(|_| self.kept[self.random.usize(..self.kept.len())].tensors()).collect();
        let mixed = (0..picks[0].len()).map(|index| {
            let rows: Vec<Tensor> =
                (0..images).zip(&picks).map(|(row, from)| from[index].narrow(0, row, 1)).collect();
            Tensor::f_cat(&rows, 0)
        });
        let mut mixed = mixed.collect::<std::result::Result<Vec<_>, _>>()?.into_iter();
        Ok(Some((first.input.with(&mut mixed), first.output.with(mixed.collect()))))
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::super::teacher::Places;
    use super::*;

    fn of(first: i64, shape: &[i64]) -> Tensor {
        let values = Tensor::from_slice(&[first, first + 1]).view([2, 1, 1, 1]);
        values.expand([&[2], shape].concat(), false).contiguous()
    }

    fn floats(first: i64, shape: &[i64]) -> Tensor {
        of(first, shape).to_kind(Kind::Float)
    }

    /// Two images, whose pixels and outputs are their number.
    fn batch(first: i64) -> (StudentInput, TeacherOutput) {
        let places = Places::Boxes {
            logits: floats(first, &[1, 3, 5]).squeeze_dim(1),
            ltrb: floats(first, &[1, 5, 4]).squeeze_dim(1),
        };
        let rgb = of(first, &[8, 8, 3]).to_kind(Kind::Uint8);
        (StudentInput::Images(rgb), TeacherOutput { places, maps: vec![floats(first, &[4, 2, 2])] })
    }

    fn number(tensor: &Tensor, row: i64) -> f64 {
        tensor.narrow(0, row, 1).to_kind(Kind::Float).mean(None).double_value(&[])
    }

    #[test]
    fn images_keep_their_answers_and_change_their_company() {
        let mut replay = Replay::new(1 << 20, 1);
        assert!(replay.draw().unwrap().is_none());
        for first in [0, 10, 20, 30] {
            let (input, output) = batch(first);
            replay.keep(&input, &output);
        }
        let mut company = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let (input, output) = replay.draw().unwrap().unwrap();
            let StudentInput::Images(rgb) = input else { panic!("these are images") };
            assert_eq!(rgb.size(), [2, 8, 8, 3]);
            for row in 0..2 {
                assert!(output.tensors().iter().all(|tensor| number(tensor, row) == number(&rgb, row)));
            }
            company.insert((number(&rgb, 0) as i64, number(&rgb, 1) as i64));
        }
        assert!(company.len() > 8, "{company:?}");
    }

    #[test]
    fn maps_of_frozen_layers_keep_their_answers() {
        let mut replay = Replay::new(1 << 20, 1);
        for first in [0, 10, 20, 30] {
            let maps = vec![floats(first, &[4, 2, 2]), floats(first, &[1, 4, 4])];
            replay.keep(&StudentInput::Frozen { maps, size: 32 }, &batch(first).1);
        }
        let (input, output) = replay.draw().unwrap().unwrap();
        assert_eq!(input.size(), 32);
        let StudentInput::Frozen { maps, .. } = input else { panic!("these are maps") };
        let shapes: Vec<_> = maps.iter().map(Tensor::size).collect();
        assert_eq!(shapes, [[2, 4, 2, 2], [2, 1, 4, 4]]);
        assert_eq!(output.tensors().len(), 3);
        for row in 0..2 {
            let same = |tensor: &&Tensor| number(tensor, row) == number(&maps[0], row);
            assert!(output.tensors().iter().all(same) && same(&&maps[1]));
        }
    }

    #[test]
    fn memory_has_an_end_and_other_sizes_are_forgotten() {
        let (input, output) = batch(0);
        let bytes = 2 * (8 * 8 * 3 + 4 * (3 * 5 + 5 * 4 + 4 * 2 * 2));
        let mut replay = Replay::new(3 * bytes + 1, 1);
        (0..10).for_each(|_| replay.keep(&input, &output));
        assert_eq!(replay.kept.len(), 3);
        replay.keep(&StudentInput::Images(of(0, &[4, 8, 3]).to_kind(Kind::Uint8)), &output);
        assert_eq!(replay.kept.len(), 1);
        assert_eq!(replay.draw().unwrap().unwrap().0.size(), 4);
    }
}
