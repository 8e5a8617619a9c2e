//! Batches, prepared in advance by several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use super::augment::{Augmenter, Sample, SourcePhoto, Target};
use super::coco::{BadData, Dataset, Labelled, Object};
use super::photos::Photos;
use crate::error::{Error, Result};

/// A batch of samples of one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// 8-bit RGB, row-major, `[samples, size, size, 3]`.
    pub rgb: Vec<u8>,
    /// Side in pixels.
    pub size: usize,
    /// The objects of each sample.
    pub targets: Vec<Vec<Target>>,
}

/// How batches are made.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// Samples per batch.
    pub batch: usize,
    /// The number of the first batch, so that a resumed run sees new samples.
    pub first_batch: u64,
    /// The progress of the run at the first batch, 0–1.
    pub progress: f32,
    /// The seed of all random choices, together with the number of the batch.
    pub seed: u64,
    /// Threads that make batches.
    pub threads: usize,
    /// Bytes of decoded photographs to keep.
    pub keep_bytes: usize,
    /// Factors by which photographs are drawn more often: those with all classes labelled by hand, and those with VOC's
    /// twenty.
    pub draw: [f32; 2],
    /// Teacher's boxes below this score are ignored.
    pub teacher_min: f32,
    /// Share of mosaics among the samples, and the progress from which there are none.
    pub mosaic: (f32, f32),
    /// Share of blended pairs (mixup) among the samples, while there are mosaics.
    pub mixup: f32,
    /// Share of samples with covered parts (cutout), while there are mosaics.
    pub cover: f32,
    /// A class is rare if less than this share of all photographs shows it. Photographs of rare classes are drawn more
    /// often, by the square root of the ratio.
    pub rare: f32,
    /// Sides in pixels, each with the progress (0–1) from which it is used; ascending, the first from 0.
    pub sizes: Vec<(usize, f32)>,
    /// What to do about damaged photographs.
    pub bad_data: BadData,
}

/// Number of batches that each thread makes in advance.
const AHEAD: u64 = 3;

/// A thread that makes batches.
struct Maker {
    /// Orders a batch: its number, and the progress of the run.
    orders: mpsc::Sender<(u64, f32)>,
    batches: mpsc::Receiver<Result<Batch>>,
    thread: JoinHandle<()>,
}

/// Hands out batches in a fixed order. What they show depends only on the configuration and on the calls, not on the
/// time that threads take.
pub struct Loader {
    makers: Vec<Maker>,
    /// The number of the next batch, counted from the first.
    next: u64,
    progress: f32,
}

/// The weight of an object: for teachers' boxes the score, from the threshold up. A confident teacher is right about as
/// often as an annotator, so its small objects are learned too. Heads with anchors use this weight. Heads without
/// anchors only check whether it is zero, and use [`certainty`].
fn weight(object: &Object, teacher_min: f32) -> f32 {
    match object.score {
        _ if object.crowd || object.ignore => 0.0,
        None => 1.0,
        Some(score) if score < teacher_min => 0.0,
        Some(score) => 0.5 + 1.5 * (score - teacher_min),
    }
}

/// The probability that a teacher's object with this score exists. The score itself is not that probability: of the
/// boxes to which the teacher of our sets gives 0.3, about half are right, and nearly all of those near 1. This
/// function is the power of the score through both points.
fn certainty(object: &Object) -> f32 {
    object.score.map_or(1.0, |score| score.powf(0.58))
}

/// How many times as often each photograph is drawn, because of the rarest class that it shows: √(`rare` / share of
/// photographs with that class), at least once (repeat-factor sampling, Gupta et al. 2019) and at most four times.
fn rarity(targets: &[Vec<Target>], classes: usize, rare: f32) -> Vec<f32> {
    let shown = |targets: &[Target]| -> std::collections::BTreeSet<usize> {
        targets.iter().filter(|target| target.weight > 0.0).map(|target| target.class).collect()
    };
    let mut photographs = vec![0usize; classes];
    targets.iter().flat_map(|targets| shown(targets)).for_each(|class| photographs[class] += 1);
    let wanted = rare * targets.len() as f32;
    let factor = |class: usize| (wanted / photographs[class] as f32).sqrt().clamp(1.0, 4.0);
    targets.iter().map(|targets| shown(targets).into_iter().map(factor).fold(1.0, f32::max)).collect()
}

struct Shared {
    dataset: Dataset,
    targets: Vec<Vec<Target>>,
    cumulative: Vec<f64>,
    photos: Photos,
    skipped: Vec<AtomicUsize>,
    config: LoaderConfig,
}

impl Loader {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if no photograph can be drawn.
    pub fn start(dataset: Dataset, config: LoaderConfig) -> Result<Loader> {
        let targets: Vec<Vec<Target>> = dataset
            .images
            .iter()
            .map(|image| {
                let target = |object: &Object| Target {
                    class: object.class,
                    ltrb: object.ltrb,
                    weight: weight(object, config.teacher_min),
                    certainty: certainty(object),
                };
                image.objects.iter().map(target).collect()
            })
            .collect();
        let mut total = 0.0;
        let rarity = rarity(&targets, dataset.classes.len(), config.rare);
        let cumulative: Vec<f64> = dataset
            .images
            .iter()
            .zip(rarity)
            .map(|(image, rarity)| {
                let labelled = match image.labelled {
                    Labelled::All => config.draw[0],
                    Labelled::Voc20 => config.draw[1],
                    Labelled::None => 1.0,
                };
                total += f64::from(labelled * rarity);
                total
            })
            .collect();
        if !(total > 0.0 && total.is_finite()) {
            return Err(Error::Option { option: "--draw", problem: "leaves no photograph to draw".into() });
        }
        let count = dataset.images.len();
        let threads = config.threads.max(1);
        let (first, progress) = (config.first_batch, config.progress);
        let shared = Arc::new(Shared {
            photos: Photos::new(count, config.keep_bytes),
            skipped: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            dataset,
            targets,
            cumulative,
            config,
        });
        let mut makers = Vec::new();
        for _ in 0..threads {
            let (orders, ordered) = mpsc::channel();
            let (send, batches) = mpsc::channel();
            let shared = shared.clone();
            let thread = std::thread::spawn(move || {
                let mut augmenter = Augmenter::default();
                for (number, progress) in ordered {
                    if send.send(shared.batch(first + number, progress, &mut augmenter)).is_err() {
                        return;
                    }
                }
            });
            makers.push(Maker { orders, batches, thread });
        }
        let loader = Loader { makers, next: 0, progress };
        for number in 0..AHEAD * threads as u64 {
            loader.order(number)?;
        }
        Ok(loader)
    }

    /// Sets the progress of the run, 0–1. It is that of batches that are not ordered yet: of each thread, three are.
    pub fn set_progress(&mut self, progress: f32) {
        self.progress = progress;
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// A damaged photograph under [`BadData::Refuse`].
    pub fn next_batch(&mut self) -> Result<Batch> {
        let batch = self.maker(self.next).batches.recv().map_err(ended)?;
        self.order(self.next + AHEAD * self.makers.len() as u64)?;
        self.next += 1;
        batch
    }

    /// Orders the batch of this number, counted from the first.
    fn order(&self, number: u64) -> Result<()> {
        self.maker(number).orders.send((number, self.progress)).map_err(ended)
    }

    /// The thread that makes the batch of this number, counted from the first.
    fn maker(&self, number: u64) -> &Maker {
        &self.makers[(number % self.makers.len() as u64) as usize]
    }
}

/// The error for a thread that ended and closed its channel.
fn ended<E>(_: E) -> Error {
    Error::Training("a loader thread ended".into())
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closed channels end the threads, after the batch that they are making.
        for Maker { orders, batches, thread } in self.makers.drain(..) {
            drop((orders, batches));
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn batch(&self, number: u64, progress: f32, augmenter: &mut Augmenter) -> Result<Batch> {
        let config = &self.config;
        let size = config.sizes.iter().rev().find(|size| size.1 <= progress).unwrap_or(&config.sizes[0]).0;
        let varied = progress < config.mosaic.1;
        let mut batch = Batch { rgb: Vec::new(), size, targets: Vec::new() };
        batch.rgb.reserve_exact(config.batch * size * size * 3);
        for sample in 0..config.batch as u64 {
            // The multipliers make seeds of neighbouring numbers different.
            let seed = config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                ^ (number * config.batch as u64 + sample).wrapping_mul(0xd134_2543_de82_ef95);
            let sample = self.sample(size, varied, &mut fastrand::Rng::with_seed(seed), augmenter)?;
            batch.rgb.extend_from_slice(&sample.rgb);
            batch.targets.push(sample.targets);
        }
        Ok(batch)
    }

    fn sample(
        &self,
        size: usize,
        varied: bool,
        rng: &mut fastrand::Rng,
        augmenter: &mut Augmenter,
    ) -> Result<Sample> {
        if !varied {
            return self.plain(size, 0.0, rng, augmenter);
        }
        let mut sample = self.plain(size, self.config.mosaic.0, rng, augmenter)?;
        if rng.f32() < self.config.mixup {
            Augmenter::mix(&mut sample, self.plain(size, self.config.mosaic.0, rng, augmenter)?, rng);
        }
        if rng.f32() < self.config.cover {
            Augmenter::cover(&mut sample, rng);
        }
        Ok(sample)
    }

    /// A mosaic or a single photograph.
    fn plain(
        &self,
        size: usize,
        mosaic: f32,
        rng: &mut fastrand::Rng,
        augmenter: &mut Augmenter,
    ) -> Result<Sample> {
        if rng.f32() < mosaic {
            let drawn = [self.draw(rng)?, self.draw(rng)?, self.draw(rng)?, self.draw(rng)?];
            let sources =
                [0, 1, 2, 3].map(|i| SourcePhoto { photo: &drawn[i].1, targets: &self.targets[drawn[i].0] });
            Ok(augmenter.mosaic(sources, size, rng))
        } else {
            let (image, photo) = self.draw(rng)?;
            Ok(augmenter.single(SourcePhoto { photo: &photo, targets: &self.targets[image] }, size, rng))
        }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> Result<(usize, Arc<super::Photo>)> {
        let total = self.cumulative[self.cumulative.len() - 1];
        // A set with hardly any usable photograph must end with an error, not hang.
        for _ in 0..1000 {
            let place = rng.f64() * total;
            let image = self.cumulative.partition_point(|&sum| sum <= place).min(self.cumulative.len() - 1);
            match self.photos.get(image, &self.dataset.images[image]) {
                Ok(photo) => return Ok((image, photo)),
                Err(error) if self.config.bad_data == BadData::Refuse => return Err(error),
                Err(error) => {
                    if self.skipped[image].fetch_add(1, Ordering::Relaxed) == 0 {
                        report(&format!("skipped image {}: {error}", self.dataset.images[image].id));
                    }
                }
            }
        }
        Err(Error::Training("no photograph could be decoded in 1000 draws".into()))
    }
}

/// Prints whole lines to standard error, one thread at a time.
fn report(line: &str) {
    static LINES: Mutex<()> = Mutex::new(());
    let _guard = LINES.lock();
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Annotated;

    fn object(score: Option<f32>) -> Object {
        Object {
            class: 0,
            ltrb: [10.0, 10.0, 30.0, 30.0],
            xywh: [10.0, 10.0, 20.0, 20.0],
            score,
            crowd: false,
            ignore: false,
            area: 400.0,
        }
    }

    fn config() -> LoaderConfig {
        LoaderConfig {
            batch: 3,
            first_batch: 0,
            progress: 0.0,
            seed: 1,
            threads: 2,
            keep_bytes: 1 << 20,
            draw: [1.0, 1.0],
            teacher_min: 0.3,
            mosaic: (0.5, 0.75),
            mixup: 0.3,
            cover: 0.3,
            rare: 0.0,
            sizes: vec![(64, 0.0), (96, 0.5)],
            bad_data: BadData::Refuse,
        }
    }

    /// One good photograph and one with a truncated file.
    fn set(folder: &std::path::Path, damaged: bool) -> Dataset {
        let good = folder.join("good.png");
        image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([x as u8, y as u8, 0])).save(&good).unwrap();
        let cut = folder.join("cut.png");
        let bytes = std::fs::read(&good).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        let image = |id, path: &std::path::Path| Annotated {
            id,
            path: path.to_owned(),
            width: 40,
            height: 40,
            labelled: Labelled::All,
            objects: vec![object(None)],
        };
        let mut images = vec![image(4, &good)];
        if damaged {
            images.push(image(5, &cut));
        }
        Dataset { classes: vec!["cat".into()], category_ids: vec![1], images, skipped: Vec::new() }
    }

    #[test]
    fn batches_depend_on_seed_and_number_alone() {
        let folder = tempfile::tempdir().unwrap();
        let batches = |threads, first_batch| {
            let config = LoaderConfig { threads, first_batch, ..config() };
            let mut loader = Loader::start(set(folder.path(), false), config).unwrap();
            (0..5).map(|_| loader.next_batch().unwrap()).collect::<Vec<_>>()
        };
        let one = batches(1, 0);
        assert_eq!(one, batches(3, 0));
        assert_eq!(one[2..], batches(2, 2)[..3]);
        assert_ne!(one[0], one[1]);
        assert_eq!((one[0].size, one[0].rgb.len()), (64, 3 * 64 * 64 * 3));
    }

    #[test]
    fn the_first_batches_of_a_resumed_run_are_those_of_its_progress() {
        let folder = tempfile::tempdir().unwrap();
        let config = LoaderConfig { progress: 0.5, ..config() };
        let mut loader = Loader::start(set(folder.path(), false), config).unwrap();
        assert!((0..6).all(|_| loader.next_batch().unwrap().size == 96));
    }

    #[test]
    fn batches_ordered_before_a_change_of_progress_do_not_follow_it() {
        let folder = tempfile::tempdir().unwrap();
        for (threads, wait) in [(1, 0), (1, 30), (2, 0), (2, 30)] {
            let mut loader =
                Loader::start(set(folder.path(), false), LoaderConfig { threads, ..config() }).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(wait));
            loader.set_progress(0.5);
            let sizes: Vec<usize> = (0..8).map(|_| loader.next_batch().unwrap().size).collect();
            let ordered = AHEAD as usize * threads;
            assert_eq!(sizes, [vec![64; ordered], vec![96; 8 - ordered]].concat(), "{threads} threads, {wait} ms");
        }
    }

    #[test]
    fn a_photograph_of_another_size_than_annotated_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut set = set(folder.path(), false);
        set.images[0].width = 30;
        let error = Loader::start(set, config()).unwrap().next_batch().unwrap_err();
        assert!(
            matches!(&error, Error::Data { problem, .. } if problem.contains("image 4 is 40x40 px")),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_photograph_is_refused_by_name_or_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let mut loader = Loader::start(set(folder.path(), true), config()).unwrap();
        let error = (0..50).find_map(|_| loader.next_batch().err()).unwrap();
        assert!(error.to_string().contains("cut.png"), "{error}");

        let config = LoaderConfig { bad_data: BadData::Skip, ..config() };
        let mut loader = Loader::start(set(folder.path(), true), config).unwrap();
        for _ in 0..20 {
            loader.next_batch().unwrap();
        }
    }

    #[test]
    fn teachers_count_by_their_score() {
        assert_eq!(weight(&object(None), 0.3), 1.0);
        assert_eq!(weight(&object(Some(0.29)), 0.3), 0.0);
        assert_eq!(weight(&object(Some(0.3)), 0.3), 0.5);
        assert_eq!(weight(&Object { crowd: true, ..object(None) }, 0.3), 0.0);
    }

    #[test]
    fn a_teacher_is_as_certain_as_its_boxes_are_right() {
        let certain = |score| certainty(&object(score));
        assert_eq!(certain(None), 1.0);
        assert!((certain(Some(0.3)) - 0.5).abs() < 0.01, "{}", certain(Some(0.3)));
        assert_eq!(certain(Some(1.0)), 1.0);
    }

    #[test]
    fn photographs_of_rare_classes_are_drawn_more_often() {
        let target = |class, weight| Target { class, ltrb: [0.0; 4], weight, certainty: 1.0 };
        let mut targets = vec![vec![target(0, 1.0)]; 100];
        targets[7] = vec![target(0, 1.0), target(1, 1.0)];
        targets[8] = vec![target(1, 0.0)]; // Ignored boxes show nothing.
        targets[9] = vec![];
        let factors = rarity(&targets, 3, 0.04);
        assert_eq!((factors[0], factors[7], factors[8], factors[9]), (1.0, 2.0, 1.0, 1.0));
        assert_eq!(rarity(&targets, 3, 0.9)[7], 4.0);
        assert!(rarity(&targets, 3, 0.0).iter().all(|factor| *factor == 1.0));
    }
}
