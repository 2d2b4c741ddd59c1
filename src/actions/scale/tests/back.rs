//! Giving a number of replicas back: when it is, and when it is left as it is.

use super::*;
use crate::actions::{Back, Undo};

const GROW: &str = "signalbox-0123456789abcdef0123-act";
const LATER: &str = "signalbox-0123456789abcdef0123-more.undo";

/// What becomes of a scaling from 2 to 6, of an object that is so now.
async fn back(unsure: bool, change: impl FnOnce(&mut World)) -> Back {
    let world = World::new(Some(6));
    change(&mut world.lock());
    let fake = serve(&world);
    let act = action(json!({"name": "act", "scale": {"target": {"kind": "Deployment", "name": "web"}, "to": 6}}));
    let request = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web", "uid": "u1", "from": 2, "to": 6});
    let Undo::Change(mut change) = act.changed(&context(&fake), &request, None) else { panic!("it can be undone") };
    change.unsure = unsure;
    act.take_back(&context(&fake), &change).await.expect("it is read")
}

fn ended(back: Back) -> (ActionOutcome, String) {
    let Back::Done(done) = back else { panic!("nothing is to be written: {back:?}") };
    (done.outcome, done.message)
}

#[tokio::test]
async fn what_is_as_it_was_made_is_given_back() {
    let Back::Request(request) = back(false, |_| ()).await else { panic!("a request") };
    assert_eq!((&request["from"], &request["to"], &request["resourceVersion"]), (&json!(6), &json!(2), &json!("7")));
}

#[tokio::test]
async fn what_is_otherwise_now_is_left_as_it_is() {
    use ActionOutcome::{Superseded, Unchanged};
    for (change, outcome, told) in [
        ((|world| world.replicas = Some(2)) as fn(&mut World), Unchanged, "has 2 replicas already"),
        (|world| world.replicas = Some(9), Superseded, "was set to 9 by somebody else: it is left as it is"),
        (|world| world.uid = "u2", Superseded, "was deleted and created anew: it is left as it is"),
    ] {
        let (ended, message) = ended(back(false, change).await);
        assert_eq!((ended, &*message), (outcome, &*format!("Deployment shop/web {told}")));
    }
}

#[tokio::test]
async fn of_a_write_that_may_not_have_been_made_the_mark_bears_witness() {
    for managers in [&[][..], &["kubectl-scale"], &["signalbox-another-act"]] {
        let managers: Vec<String> = managers.iter().map(|name| (*name).to_owned()).collect();
        let (outcome, message) = ended(back(true, |world| world.managers = managers).await);
        assert_eq!(outcome, ActionOutcome::Superseded, "{message}");
        assert!(message.ends_with("is so, but not by this firing: it is left as it is"), "{message}");
    }
    for manager in [GROW, LATER] {
        let back = back(true, |world| world.managers = vec![manager.to_owned()]).await;
        assert!(matches!(back, Back::Request(_)), "{manager}");
    }
}
