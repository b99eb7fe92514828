//! Logs and artifacts, the same bytes on every rung, and no empty answer taken for an end.

use futures::TryStreamExt as _;
use tenantry::gateway::{
    ErrorClass, ErrorKind, GatewayError, LogCursor, LogEnd, LogRung, ProjectScope, Run, RunProgress, RunRef,
};
use tenantry_simulator::{Fault, FaultAction, JenkinsFault, JenkinsOutage, Role, Simulator};

use super::bench::{PROJECT, create, finished, parameter, recorded, until};

/// Text, rung, and what was said about the end.
async fn whole_log(project: &ProjectScope, run: &RunRef) -> (Vec<u8>, LogRung, LogEnd) {
    let mut stream = project.open_log(run, &LogCursor::default()).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = stream.next().await {
        text.extend_from_slice(&piece.unwrap());
    }
    let rung = stream.rung();
    let (cursor, end) = stream.finish();
    assert_eq!(cursor.delivered(), text.len() as u64);
    (text, rung, end)
}

async fn download(
    project: &ProjectScope,
    run: &Run,
    path: &str,
    from: u64,
) -> Result<(Vec<u8>, bool), GatewayError> {
    let file = project
        .download(&run.reference().unwrap(), run.name.as_str(), path, from)
        .await?;
    let buffered = file.buffered_remotely;
    let bytes = file.map_ok(|piece| piece.to_vec()).try_concat().await?;
    Ok((bytes, buffered))
}

fn refuse_proxy(sim: &Simulator) {
    sim.control()
        .set_role(PROJECT, "alice", Some(Role::tenant_without_jenkins_proxy()))
        .unwrap();
}

#[tokio::test]
async fn a_log_is_the_same_on_both_rungs_also_a_big_one() {
    let (sim, project) = recorded(None).await;
    for pipeline in ["hello", "biglog"] {
        let name = format!("log-{pipeline}");
        create(&project, &name, pipeline, vec![]).await;
        let run = finished(&project, &name).await.0.reference().unwrap();
        let (text, rung, end) = whole_log(&project, &run).await;
        assert_eq!((rung, end), (LogRung::Progressive, LogEnd::Complete));
        assert!(!text.contains(&b'\r'), "line ends are LF");
        if pipeline == "biglog" {
            assert_eq!(text.len(), 8 << 20);
        }
        let (sim2, project2) = (&sim, super::bench::project(&super::bench::alice(&sim)));
        refuse_proxy(sim2);
        let (whole, rung, end) = whole_log(&project2, &run).await;
        assert_eq!((rung, end), (LogRung::Whole, LogEnd::Unknown));
        assert!(
            whole == text,
            "{pipeline}: {} bytes on one rung, {} on the other",
            text.len(),
            whole.len()
        );
        sim.control()
            .set_role(PROJECT, "alice", Some(Role::tenant()))
            .unwrap();
    }
}

#[tokio::test]
async fn a_live_log_is_pulled_piece_by_piece_on_both_rungs() {
    for refused in [false, true] {
        let (sim, project) = recorded(None).await;
        if refused {
            refuse_proxy(&sim);
        }
        let parameters = vec![parameter("DURATION", "20"), parameter("LOG_BYTES", "40000")];
        create(&project, "live", "slow", parameters).await;
        until(&project, "live", |run| run.progress() == RunProgress::Running).await;
        let mut cursor = LogCursor::default();
        let mut text = Vec::new();
        let mut reads = 0;
        loop {
            let over = matches!(
                project.run("live").await.unwrap().progress(),
                RunProgress::Finished(_)
            );
            let run = project.run("live").await.unwrap().reference().unwrap();
            let chunk = project.log(&run, &cursor, 1 << 20).await.unwrap();
            reads += usize::from(!chunk.text.is_empty());
            text.extend_from_slice(&chunk.text);
            cursor = chunk.next;
            if over {
                assert_eq!(
                    chunk.end,
                    if refused {
                        LogEnd::Unknown
                    } else {
                        LogEnd::Complete
                    }
                );
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(reads > 1, "it was not read live");
        let run = project.run("live").await.unwrap().reference().unwrap();
        let (whole, _, _) = whole_log(&project, &run).await;
        assert!(
            text == whole,
            "{} bytes live, {} at the end",
            text.len(),
            whole.len()
        );
    }
}

#[tokio::test]
async fn a_steps_log_is_read_on_where_it_ended() {
    let (sim, project) = recorded(None).await;
    let parameters = vec![parameter("DURATION", "20"), parameter("LOG_BYTES", "40000")];
    create(&project, "steps", "slow", parameters).await;
    let run = until(&project, "steps", |run| run.progress() == RunProgress::Running).await;
    let run = run.reference().unwrap();
    let stages = project.nodes(&run).await.unwrap();
    let stage = &stages[0].id;
    let step = project.steps(&run, stage).await.unwrap().remove(0).id;
    let none = project
        .open_step_log(&run, stage, "99", &LogCursor::default())
        .await;
    assert_eq!(
        none.err().unwrap().kind(),
        ErrorKind::NotFound,
        "a step without a log"
    );

    let mut cursor = LogCursor::default();
    let mut text = Vec::new();
    let mut reads = 0;
    loop {
        let mut stream = project.open_step_log(&run, stage, &step, &cursor).await.unwrap();
        let before = text.len();
        while let Some(piece) = stream.next().await {
            text.extend_from_slice(&piece.unwrap());
        }
        reads += usize::from(text.len() > before);
        let end;
        (cursor, end) = stream.finish();
        if end == LogEnd::Complete {
            break;
        }
        assert_eq!(end, LogEnd::Growing);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(reads > 1, "it was not read live");
    finished(&project, "steps").await;
    // The stand-in has one text for all of its steps (as recorded), which is the run's.
    assert!(
        text == whole_log(&project, &run).await.0,
        "{} bytes of the step",
        text.len()
    );
    let served: u64 = sim
        .ledger()
        .requests("v2.run.steplog")
        .iter()
        .map(|request| request.bytes_out)
        .sum();
    let size = text.len() as u64;
    assert!(
        served <= size + size / 20,
        "{served} bytes served of {size}, in {reads} reads"
    );
}

#[tokio::test]
async fn a_queued_build_has_no_log_and_a_dead_jenkins_no_empty_one() {
    let (sim, project) = recorded(None).await;
    create(&project, "queued", "hello", vec![parameter("QUEUE", "600")]).await;
    let run = until(&project, "queued", |run| run.progress() == RunProgress::Queued)
        .await
        .reference()
        .unwrap();
    let error = project
        .log(&run, &LogCursor::default(), 1 << 20)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    create(&project, "done", "artifacts", vec![]).await;
    let done = finished(&project, "done").await.0;
    sim.control()
        .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
        .unwrap();
    let reference = done.reference().unwrap();
    let error = project
        .log(&reference, &LogCursor::default(), 1 << 20)
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::JenkinsUnavailable, ErrorClass::Unavailable)
    );
    let error = download(&project, &done, "app.jar", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
    let error = project.artifacts(&reference).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
    sim.control().jenkins_up().unwrap();
    assert_eq!(
        download(&project, &done, "app.jar", 0).await.unwrap().0.len(),
        1 << 20
    );
}

#[tokio::test]
async fn every_file_comes_whole_on_both_rungs_whatever_its_name() {
    let (sim, project) = recorded(None).await;
    create(&project, "files", "artifacts", vec![]).await;
    let run = finished(&project, "files").await.0;
    let files = project.artifacts(&run.reference().unwrap()).await.unwrap();
    let names: Vec<_> = files.iter().map(|f| f.path.as_str()).collect();
    for odd in [
        "a+b%20c.txt",
        "résumé.txt",
        "target/reports/junit report.xml",
        "dist/linux amd64/app.tar.gz",
        "empty.txt",
    ] {
        assert!(names.contains(&odd), "{odd} is not in {names:?}");
    }
    let mut streamed = Vec::new();
    for file in &files {
        let (bytes, buffered) = download(&project, &run, &file.path, 0).await.unwrap();
        assert_eq!(
            (bytes.len() as u64, buffered),
            (file.size, false),
            "{}",
            file.path
        );
        streamed.push(bytes);
    }
    let whole = &streamed[names.iter().position(|n| *n == "app.jar").unwrap()];
    let (rest, _) = download(&project, &run, "app.jar", 1_000_000).await.unwrap();
    assert!(rest == whole[1_000_000..], "a range is the rest of the file");

    refuse_proxy(&sim);
    let project = super::bench::project(&super::bench::alice(&sim));
    for (file, streamed) in files.iter().zip(&streamed) {
        let (bytes, buffered) = download(&project, &run, &file.path, 0).await.unwrap();
        assert!(buffered, "{}", file.path);
        assert!(&bytes == streamed, "{}: other bytes on the other rung", file.path);
    }
    assert_eq!(
        download(&project, &run, "nope", 0).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        sim.ledger().count_status("v2.proxy", 403),
        1,
        "the refusal was remembered"
    );
}

#[tokio::test]
async fn more_files_than_a_page_are_all_listed() {
    let (_sim, project) = recorded(None).await;
    let many: Vec<_> = (0..1234).map(|n| format!("f{n}.txt:1")).collect();
    create(
        &project,
        "many",
        "artifacts",
        vec![parameter("ARTIFACTS", &many.join(","))],
    )
    .await;
    let run = finished(&project, "many").await.0.reference().unwrap();
    assert_eq!(project.artifacts(&run).await.unwrap().len(), 1234);
}

#[tokio::test]
async fn a_cut_file_is_an_error_and_is_resumed_where_it_broke() {
    let (sim, project) = recorded(None).await;
    create(&project, "cut", "artifacts", vec![]).await;
    let run = finished(&project, "cut").await.0;
    let (whole, _) = download(&project, &run, "app.jar", 0).await.unwrap();
    sim.control()
        .fault(Fault::once("v2.proxy", FaultAction::truncate(100_000)));
    let mut file = project
        .download(&run.reference().unwrap(), run.name.as_str(), "app.jar", 0)
        .await
        .unwrap();
    assert_eq!(file.remaining, Some(whole.len() as u64));
    let mut got = Vec::new();
    let error = loop {
        match file.try_next().await {
            Ok(Some(piece)) => got.extend_from_slice(&piece),
            Ok(None) => panic!(
                "{} bytes of {} were taken for the whole file",
                got.len(),
                whole.len()
            ),
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), ErrorClass::Unavailable);
    let (rest, _) = download(&project, &run, "app.jar", got.len() as u64)
        .await
        .unwrap();
    got.extend_from_slice(&rest);
    assert!(got == whole);
}
