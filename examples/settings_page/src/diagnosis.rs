//! The live diagnosis: each step is sent to the browser as soon as it is done, as plain HTML that needs no script.

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use smtp_oauth::{Diagnose, DiagnosisStep, StepResult};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower_sessions::Session;

use crate::Page;
use crate::access::{Posted, csrf_token};
use crate::notice::Advice;
use crate::pages::{Failure, Nothing, unready};

/// Where the steps come in the page around them.
const STEPS: &str = "<!-- steps -->";

#[derive(Template)]
#[template(path = "diagnosis.html")]
struct DiagnosisPage {
    csrf: String,
    is_demo: bool,
}

#[derive(Template)]
#[template(path = "step.html")]
struct Step {
    name: String,
    result: &'static str,
    milliseconds: u128,
    lines: Vec<String>,
    advice: Option<Advice>,
}

#[derive(Template)]
#[template(path = "verdict.html")]
struct Verdict {
    is_healthy: bool,
}

impl Step {
    fn of(step: &DiagnosisStep) -> Self {
        Self {
            name: step.name().to_string(),
            result: match step.result() {
                StepResult::Passed => "passed",
                StepResult::Warning => "warning",
                StepResult::Failed => "failed",
                _ => "skipped",
            },
            milliseconds: step.took().as_millis(),
            lines: step.finding().lines().map(str::to_owned).collect(),
            advice: step.remedy().map(Advice::from),
        }
    }
}

pub async fn run(
    State(page): State<Arc<Page>>,
    session: Session,
    Posted(Nothing {}): Posted<Nothing>,
) -> Result<Response, Failure> {
    let Ok(ready) = page.saved().await? else { return Ok(unready(&session).await?.into_response()) };
    let mailer = ready.mailer(&page.tokens())?;
    let around =
        DiagnosisPage { csrf: csrf_token(&session).await?, is_demo: page.demo.is_some() }.render()?;
    let (head, tail) = around.split_once(STEPS).unwrap_or((&around, ""));
    let (head, tail) = (head.to_owned(), tail.to_owned());
    let (send, receive) = mpsc::unbounded_channel::<Result<String, Infallible>>();
    tokio::spawn(async move {
        // A browser that goes away receives nothing more; the diagnosis comes to its end within its own deadlines.
        let show = |part: String| _ = send.send(Ok(part));
        show(head);
        let diagnosis = Diagnose::new(&mailer).on_step(|step| show(rendered(&Step::of(step)))).run().await;
        show(rendered(&Verdict { is_healthy: diagnosis.is_healthy() }));
        show(tail);
        mailer.close().await;
    });
    let body = Body::from_stream(UnboundedReceiverStream::new(receive));
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response())
}

fn rendered(part: &impl Template) -> String {
    part.render().unwrap_or_default()
}
