//! Counters of attempts.

use std::sync::Arc;

use super::{at, record, rule};
use crate::auth::Admission;
use crate::store::{Change, Store};

pub async fn attempts_side_by_side_are_never_more_than_the_rule_allows(store: Arc<dyn Store>) {
    let tries = (0..50).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let counters = [("account".to_owned(), rule(5)), ("source".to_owned(), rule(500))];
            store.admit(&counters, at(0)).await.unwrap()
        })
    });
    let mut admitted = 0;
    for answer in futures::future::join_all(tries).await {
        match answer.unwrap()[..] {
            [Admission::Admitted(_), Admission::Admitted(_)] => admitted += 1,
            [Admission::Locked { until }, _] => assert_eq!(until, at(300)),
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, 5);
    let answer = store.admit(&[("source".to_owned(), rule(500))], at(1)).await.unwrap();
    let [Admission::Admitted(source)] = answer[..] else { panic!("{answer:?}") };
    assert_eq!(source.count, 6, "a refused attempt has counted for the source");
}

pub async fn one_counter_that_refuses_keeps_all_from_counting(store: Arc<dyn Store>) {
    let account = ("account".to_owned(), rule(3));
    let source = ("source".to_owned(), rule(1));
    store.admit(std::slice::from_ref(&source), at(0)).await.unwrap();
    for _ in 0..9 {
        let answer = store.admit(&[account.clone(), source.clone()], at(1)).await.unwrap();
        assert!(
            matches!(answer[..], [Admission::Admitted(_), Admission::Locked { until }] if until == at(300)),
            "{answer:?}"
        );
    }
    let answer = store.admit(std::slice::from_ref(&account), at(1)).await.unwrap();
    let [Admission::Admitted(attempts)] = answer[..] else { panic!("{answer:?}") };
    assert_eq!(attempts.count, 1);
    let answer = store.admit(&[account, source], at(300)).await.unwrap();
    assert!(matches!(answer[..], [Admission::Admitted(_), Admission::Admitted(_)]));
}

pub async fn an_attempt_given_back_or_cleared_counts_no_more(store: Arc<dyn Store>) {
    let admit = async || {
        let answer = store.admit(&[("account".to_owned(), rule(2))], at(0)).await.unwrap();
        matches!(answer[..], [Admission::Admitted(_)])
    };
    let change = async |change: Change| store.commit(vec![change], vec![record(0)]).await.unwrap();
    let counter = || "account".to_owned();
    assert!(admit().await && admit().await);
    assert!(!admit().await);
    change(Change::GiveBackAttempt(counter())).await;
    assert!(admit().await);
    assert!(!admit().await);
    change(Change::ClearAttempts(counter())).await;
    assert!(admit().await && admit().await);
    assert!(!admit().await);
    change(Change::GiveBackAttempt("nobody".to_owned())).await;
    change(Change::ClearAttempts("nobody".to_owned())).await;
}
