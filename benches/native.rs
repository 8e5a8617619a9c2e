//! The detector's side of `benches/native.py`: for each line on standard input one frame, whose milliseconds it answers.
//!
//! Arguments: an ONNX file and the side of the picture in pixels; `tract` as a third one measures tract-onnx on the same
//! file instead, on a tensor that is ready.

use std::io::{BufRead, Write};
use std::time::Instant;

use micro_yolo::{Detector, ImageView};
use tract_onnx::prelude::*;

/// A picture with structure: stripes and blotches in all colours, as in `benches/browser/page.js`.
fn picture(side: u32) -> Vec<u8> {
    let wave = |phase: f32| (127.0 + 120.0 * phase) as u8;
    let pixel = |i: u32| {
        let (x, y) = ((i % side) as f32, (i / side) as f32);
        [wave((x / 9.0).sin()), wave(((x + y) / 23.0).sin()), wave((y / 5.0).cos())]
    };
    (0..side * side).flat_map(pixel).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, side, on_tract) = match &arguments[..] {
        [file, side] => (file, side, false),
        [file, side, runtime] if runtime == "tract" => (file, side, true),
        _ => return Err("usage: native MODEL.onnx SIDE [tract]".into()),
    };
    let (onnx, side) = (std::fs::read(file)?, side.parse()?);
    if on_tract {
        let shape = [1, 3, side as usize, side as usize];
        let model = tract_onnx::onnx().model_for_read(&mut &onnx[..])?;
        let model = model.with_input_fact(0, f32::fact(shape).into())?.into_optimized()?.into_runnable()?;
        let input = Tensor::zero::<f32>(&shape)?.into_tvalue();
        return frames(|| {
            model.run(tvec!(input.clone()))?;
            Ok(())
        });
    }
    // Networks with random weights see objects everywhere; suppressing thousands is not what a frame costs.
    let mut detector = Detector::builder().input_size(side, side).score_threshold(1.0).build(&onnx)?;
    let pixels = picture(side);
    let image = ImageView::rgb(&pixels, side, side)?;
    frames(|| {
        std::hint::black_box(detector.detect(image)?);
        Ok(())
    })
}

/// Has a frame looked at for each line on standard input.
fn frames(
    mut frame: impl FnMut() -> Result<(), Box<dyn std::error::Error>>,
) -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        frame()?;
        println!("{}", start.elapsed().as_secs_f64() * 1e3);
        std::io::stdout().flush()?;
    }
    Ok(())
}
