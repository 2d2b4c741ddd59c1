use super::*;

fn told(stop: &CancellationToken, ended: Ended) -> Result<(), String> {
    unasked(stop, Some(Ok(ended))).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_part_that_ends_unasked_ends_the_process_and_is_named() {
    let stop = CancellationToken::new();
    assert_eq!(told(&stop, ("sources", Ok(()))), Err("sources ended unasked".to_owned()));
    let failed = ("rules", Err(BusError::Closed.into()));
    assert_eq!(told(&stop, failed), Err("rules failed: the log is closed".to_owned()));
}

#[test]
fn when_told_to_stop_a_part_may_end() {
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(told(&stop, ("signals", Ok(()))), Ok(()));
}

#[tokio::test]
async fn a_part_that_panics_ends_the_process() {
    let mut parts = JoinSet::<Ended>::new();
    parts.spawn(async { Vec::new().pop().expect("it fell") });
    let error = unasked(&CancellationToken::new(), parts.join_next().await).expect_err("it fell");
    assert!(error.to_string().contains("it fell"), "{error}");
}

#[tokio::test]
async fn a_part_that_fails_to_stop_does_not_keep_the_others_from_ending() {
    let (mut parts, ended) = (JoinSet::<Ended>::new(), CancellationToken::new());
    let (first, last) = (CancellationToken::new(), ended.clone());
    let failed = first.clone();
    parts.spawn(async move {
        failed.cancel();
        ("sources", Err(BusError::Closed.into()))
    });
    parts.spawn(async move {
        first.cancelled().await;
        tokio::task::yield_now().await;
        last.cancel();
        ("rules", Err(anyhow!("later")))
    });
    let error = join(&mut parts).await.expect_err("one failed");
    assert_eq!(format!("{error:#}"), "stop sources: the log is closed", "the first failure is told");
    assert!(ended.is_cancelled(), "the other has ended");
}
