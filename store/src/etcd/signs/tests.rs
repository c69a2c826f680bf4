//! What ends the waiting for an answer.

use super::*;

const LONG: Duration = Duration::from_secs(10);

async fn never() -> Result<(), etcd_client::Error> {
    std::future::pending().await
}

fn elected(signs: &Signs, term: u64) {
    signs.seen.send_modify(|seen| seen.term = term);
}

#[tokio::test(start_paused = true)]
async fn an_election_after_a_request_was_sent_ends_the_waiting_for_it() {
    let signs = Signs::default();
    elected(&signs, 5);
    let (before, started) = (signs.sent(0), Instant::now());
    let election = async {
        // Whoever waits has asked for signs.
        signs.wanted.notified().await;
        elected(&signs, 6);
    };
    let (waited, ()) = tokio::join!(signs.wait(before, started + LONG, never()), election);
    assert!(matches!(waited, Waited::Overtaken));
    assert_eq!(started.elapsed(), USUAL + GRACE);
    let (after, started) = (signs.sent(0), Instant::now());
    assert!(matches!(signs.wait(after, started + LONG, never()).await, Waited::Silent), "it was sent to the new one");
    assert_eq!(started.elapsed(), LONG);
}

#[tokio::test(start_paused = true)]
async fn the_first_term_that_is_heard_of_is_no_sign_of_an_election() {
    let signs = Signs::default();
    let (sent, until) = (signs.sent(0), Instant::now() + LONG);
    elected(&signs, 5);
    assert!(matches!(signs.wait(sent, until, never()).await, Waited::Silent));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_right_after_an_election_counts() {
    let signs = Signs::default();
    elected(&signs, 5);
    let (sent, until) = (signs.sent(0), Instant::now() + LONG);
    let answer = async {
        signs.wanted.notified().await;
        elected(&signs, 6);
        sleep(GRACE / 2).await;
        Ok(7)
    };
    assert!(matches!(signs.wait(sent, until, answer).await, Waited::Answered(Ok(7))));
}

#[tokio::test(start_paused = true)]
async fn only_the_silence_of_the_member_that_was_asked_counts() {
    let signs = Signs::default();
    signs.note_round(Some(1));
    let (old, until) = (signs.sent(1), Instant::now() + LONG);
    assert!(matches!(signs.wait(old, until, never()).await, Waited::Silent), "it was silent before");
    let (sent, until) = (signs.sent(1), Instant::now() + LONG);
    let rounds = async {
        signs.note_round(Some(0));
        sleep(ASK_EVERY).await;
        signs.note_round(Some(1));
    };
    let (waited, ()) = tokio::join!(signs.wait(sent, until, never()), rounds);
    assert!(matches!(waited, Waited::Overtaken) && Instant::now() < until);
    signs.heard(0);
    assert!(signs.is_silent(1));
    signs.heard(1);
    assert!(!signs.is_silent(1));
}
