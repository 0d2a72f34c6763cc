//! The shapes under a policy that only observes: what is not sealed comes as it does past pgveil, and what is sealed
//! comes no more than ever.

use super::asking::{Asker, Shape, Way, shapes};
use super::stage::{self, UNSEALING};
use super::{Cell, found, needles};

/// The only table with sealed columns.
const SEALED: &str = "patients";

/// What stays refused where nothing sealed is named: pinned settings, reserved names, fast-path calls.
const LISTED: [&str; 3] = ["PV019", "PV020", "PV024"];

const WAYS: [Way; 3] = [Way::Simple, Way::PreparedText, Way::Cursor];

/// Every shape in some ways; `shown` is a sealed value only.
fn pass(mut asker: Asker<'_>, shapes: &[Shape]) -> Vec<Vec<Cell>> {
    let mut ask = |shape: &Shape| {
        let needles = needles(UNSEALING, shape);
        let ways: Vec<Way> = WAYS.into_iter().filter(|way| shape.has(*way) && asker.may(shape)).collect();
        let cell = |way| {
            let answer = asker.ask(shape, way);
            let shown = found(&answer, &needles).map(str::to_owned);
            Cell { way, shown, stable: answer.stable(), error: answer.error() }
        };
        ways.into_iter().map(cell).collect()
    };
    shapes.iter().map(&mut ask).collect()
}

/// The answer without what chance decides: the order of rows that are grouped, what a plan costs.
fn settled(cell: &Cell) -> Vec<&str> {
    // Even its length.
    let costs = |frame: &str| frame.contains("(cost=") || (frame.contains("Total") && frame.contains("Cost"));
    let end = |frame: &str| if costs(frame) { 1 } else { frame.len() };
    let mut frames: Vec<&str> = cell.stable.iter().map(|frame| &frame[..end(frame)]).collect();
    frames.sort_unstable();
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn observed_shapes_come_as_past_pgveil_but_for_what_is_sealed() {
    let site = stage::observing().await;
    let shapes = shapes();
    let [veiled, direct] = tokio::task::block_in_place(|| {
        [Asker::veiled(&site, "support"), Asker::direct(&site, "support")].map(|asker| {
            stage::settle(&site);
            pass(asker, &shapes)
        })
    });
    let (mut wrong, mut same) = (Vec::new(), 0);
    for (at, shape) in shapes.iter().enumerate() {
        let shown = veiled[at].iter().filter_map(|cell| cell.shown.as_ref());
        wrong.extend(shown.map(|word| format!("shows {word}: {}", shape.line)));
        let sealed = shape.text().to_ascii_lowercase().contains(SEALED);
        for (cell, past) in veiled[at].iter().zip(&direct[at]) {
            match cell.error.as_ref().and_then(|(_, code)| code.as_deref()) {
                Some(code) if sealed || LISTED.contains(&code) => {}
                Some(code) => wrong.push(format!("{:?} {code}: {}", cell.way, shape.line)),
                None if sealed || shape.restless => {}
                None if settled(cell) == settled(past) => same += 1,
                None => {
                    wrong.push(format!("{:?} {}\n    {:?}\n    {:?}", cell.way, shape.line, cell.stable, past.stable))
                }
            }
        }
    }
    println!("{same} answers are the same");
    assert!(wrong.is_empty(), "{} are not as they should be:\n{}", wrong.len(), wrong.join("\n"));
    assert!(same > 500, "{same}");
}
