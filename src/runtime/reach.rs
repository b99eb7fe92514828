//! Whether our own API server answers, for `/readyz`: whoever cannot see what is asked for is not ready, and says so.

use std::time::Duration;

use futures::{FutureExt as _, future::BoxFuture};
use kube::Client;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::health::Readiness;

/// What readiness lacks meanwhile.
const API_SERVER: &str = "api server";
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is asked while it does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Who has a reason to doubt that the API server answers says so here. All clones are the same.
#[derive(Clone, Debug)]
pub struct Doubt(mpsc::Sender<()>);

impl Doubt {
    /// Something failed that would not have failed if the API server answered.
    pub fn raise(&self) {
        // Where one is waiting already, or nobody listens any more, there is nothing to add.
        let _ = self.0.try_send(());
    }

    /// Whether an error of the API raises one: no answer at all, or one that says that the server itself is not well.
    pub fn is_due(error: &kube::Error) -> bool {
        match error {
            kube::Error::Api(status) => status.code >= 500,
            kube::Error::SerdeError(_) => false,
            _ => true,
        }
    }
}

/// A doubt, and the task that looks into it: it asks the API server for its version until it answers.
pub fn watch_over(client: Client, readiness: Readiness) -> (Doubt, BoxFuture<'static, ()>) {
    let (sender, mut doubts) = mpsc::channel(1);
    let look = async move {
        while doubts.recv().await.is_some() {
            while let Some(why) = silent(&client).await {
                readiness.lacks(API_SERVER, format!("the API server does not answer: {why}"));
                sleep(PAUSE).await;
            }
            readiness.has(API_SERVER);
        }
    };
    (Doubt(sender), look.boxed())
}

/// Why the API server cannot be taken for answering; None where it answers.
async fn silent(client: &Client) -> Option<String> {
    match timeout(ANSWER, client.apiserver_version()).await {
        Ok(Err(kube::Error::Api(status))) if status.code >= 500 => {
            Some(format!("{} ({})", status.message, status.code))
        }
        Ok(Err(error)) if Doubt::is_due(&error) => Some(error.to_string()),
        Ok(_) => None,
        Err(_) => Some(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU16, Ordering::SeqCst},
    };

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn not_ready_while_the_api_server_does_not_answer_and_only_after_a_doubt() {
        let code = Arc::new(AtomicU16::new(503));
        let answers = Arc::clone(&code);
        let server = tower::service_fn(move |_: Request<Body>| {
            let code = answers.load(SeqCst);
            async move {
                let body =
                    format!(r#"{{"kind":"Status","status":"Failure","message":"etcd","code":{code}}}"#);
                let answer = Response::builder()
                    .status(code)
                    .body(Body::from(body.into_bytes()));
                Ok::<_, std::convert::Infallible>(answer.expect("an answer"))
            }
        });
        let readiness = Readiness::default();
        let (doubt, look) = watch_over(Client::new(server, "default"), readiness.clone());
        let look = tokio::spawn(look);
        let until = async |is: fn(&[String]) -> bool| {
            let looks = async {
                while !is(&readiness.missing()) {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let seen = timeout(Duration::from_secs(60), looks).await;
            assert!(seen.is_ok(), "{:?}", readiness.missing());
        };
        // Nobody doubts.
        tokio::task::yield_now().await;
        assert_eq!(readiness.missing(), Vec::<String>::new());
        doubt.raise();
        doubt.raise();
        until(|missing| matches!(missing, [one] if one.contains("does not answer"))).await;
        // Who may not tell us answers.
        code.store(403, SeqCst);
        until(<[String]>::is_empty).await;
        look.abort();
    }

    #[test]
    fn who_says_no_answers() {
        let status = |code| kube::Error::Api(kube::core::Status::failure("", "").with_code(code).boxed());
        for (error, due) in [
            (status(403), false),
            (status(404), false),
            (status(410), false),
            (status(429), false),
            (status(500), true),
            (status(503), true),
            (kube::Error::Service("reset".into()), true),
        ] {
            assert_eq!(Doubt::is_due(&error), due, "{error:?}");
        }
    }
}
