//! Calls into a node: their answers, and how they end.

use limpet_protocol::call::{CallIn, CallOut};
use tokio::sync::mpsc;

use super::*;

async fn open(
    rig: &Rig,
    node: &str,
    first: CallIn,
) -> Result<(mpsc::Receiver<CallOut>, mpsc::Sender<CallIn>), String> {
    let (answers, heard) = mpsc::channel(4);
    let (say, more) = mpsc::channel(4);
    let (opened, result) = oneshot::channel();
    let node = node.parse().unwrap();
    rig.handle.requests.send(Request::Call { node, first, answers, more, opened }).await.unwrap();
    result.await.unwrap().map(|()| (heard, say))
}

fn logs(tail: Option<u32>) -> CallIn {
    CallIn::Logs {
        instance: "shop.web.1".parse().unwrap(),
        tail,
        follow: true,
        credit: 4,
        since_ms: None,
        timestamps: false,
    }
}

async fn next(heard: &mut mpsc::Receiver<CallOut>) -> Option<CallOut> {
    tokio::time::timeout(PATIENCE, heard.recv()).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_there_and_back_and_end() {
    let mut rig = Rig::start(NEVER).await;
    let token = rig.token().await;
    let agent = rig.agent(&token, "pi").await;
    rig.sees("ready", |v| v.nodes.iter().any(|n| n.status == "ready")).await;
    assert!(open(&rig, "nobody", logs(None)).await.unwrap_err().contains("no node nobody"));
    // The channel is full of chunks, and the end still comes.
    let (mut heard, _say) = open(&rig, "pi", logs(Some(0))).await.unwrap();
    for number in 0..4 {
        let chunk = next(&mut heard).await;
        assert!(matches!(chunk, Some(CallOut::Chunk { sequence, .. }) if sequence == number));
    }
    assert_eq!(next(&mut heard).await, Some(CallOut::end(None)));
    assert_eq!(next(&mut heard).await, None);
    // A caller that goes away cancels.
    let mut calls = agent.calls.clone();
    let (heard, say) = open(&rig, "pi", logs(None)).await.unwrap();
    say.send(CallIn::Credit { chunks: 1 }).await.unwrap();
    let said = |word: CallIn| move |calls: &Vec<CallIn>| calls.contains(&word);
    let credit = calls.wait_for(said(CallIn::Credit { chunks: 1 }));
    tokio::time::timeout(PATIENCE, credit).await.expect("the credit arrives").unwrap();
    drop((heard, say));
    let cancel = calls.wait_for(said(CallIn::Cancel));
    tokio::time::timeout(PATIENCE, cancel).await.expect("the cancel arrives").unwrap();
    // A node that goes away ends its calls.
    let (mut heard, _say) = open(&rig, "pi", logs(None)).await.unwrap();
    for _ in 0..4 {
        next(&mut heard).await;
    }
    drop(agent);
    let end = next(&mut heard).await;
    assert!(
        matches!(&end, Some(CallOut::End { error: Some(why), .. }) if why.contains("unreachable")),
        "{end:?}"
    );
    assert!(open(&rig, "pi", logs(None)).await.unwrap_err().contains("unreachable"));
    rig.stop().await;
}
