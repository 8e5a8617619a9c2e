//! Shows what is in the page's picture, without a line of JavaScript but for the one that starts it.
#![cfg(target_family = "wasm")]

use micro_yolo::Detector;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, HtmlImageElement};

/// In the module: nothing else has to be fetched.
const MODEL: &[u8] = include_bytes!("../../../models/micro-yolo-s-int8.onnx");

/// Runs when the module has loaded.
#[wasm_bindgen(start)]
async fn start() -> Result<(), JsValue> {
    console_error_panic_hook::set_once();
    let document = web_sys::window().and_then(|window| window.document()).ok_or("no page")?;
    let element = |name| document.query_selector(name)?.ok_or_else(|| JsValue::from(format!("no <{name}>")));
    let photo: HtmlImageElement = element("img")?.dyn_into().map_err(JsValue::from)?;
    let canvas: HtmlCanvasElement = element("canvas")?.dyn_into().map_err(JsValue::from)?;
    let text = element("pre")?;

    JsFuture::from(photo.decode()).await?;
    let mut detector = Detector::from_onnx(MODEL).map_err(shown)?;
    let found = detector.detect_from(&photo).map_err(shown)?;

    canvas.set_width(photo.natural_width());
    canvas.set_height(photo.natural_height());
    let context: CanvasRenderingContext2d = canvas.get_context("2d")?.ok_or("no canvas")?.unchecked_into();
    context.draw_image_with_html_image_element(&photo, 0.0, 0.0)?;
    context.set_stroke_style_str("red");
    context.set_line_width(3.0);
    for object in &found {
        let [x, y, width, height] =
            [object.bbox.x, object.bbox.y, object.bbox.width, object.bbox.height].map(f64::from);
        context.stroke_rect(x, y, width, height);
        let line = format!("{} {:.0} % at {x:.0}, {y:.0}\n", object.label, object.score * 100.0);
        text.append_with_str_1(&line)?;
    }
    Ok(())
}

fn shown(error: micro_yolo::Error) -> JsValue {
    format!("{}: {error}", error.code()).into()
}
