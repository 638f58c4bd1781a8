//! Demands that have to be met within a time.

use super::*;

fn within(name: &str, group: &str, cpus: f64, within_ms: Option<u64>) -> Demand {
    Demand { name: name.into(), group: group.into(), within_ms, ..demand(cpus, 1) }
}

fn expired(desk: &mut Desk, connection: u64) -> Vec<Vec<String>> {
    let said = desk.said_to(connection).into_iter();
    said.filter_map(|event| if let FrameworkEvent::Expired { names } = event { Some(names) } else { None }).collect()
}

#[test]
fn what_is_not_met_in_time_is_wanted_no_longer_with_all_of_its_group() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 60_000);
    let wanted = [
        within("chief", "gang", 1.0, Some(10_000)),
        within("worker", "gang", 64.0, None),
        within("alone", "", 64.0, Some(20_000)),
        within("patient", "", 64.0, None),
    ];
    desk.want(10, &wanted);
    desk.pass(6_000, &[1]);
    // Posted again, it has no more time than it had.
    desk.want(10, &wanted);
    desk.pass(3_000, &[1]);
    assert!(expired(&mut desk, 10).is_empty());
    desk.pass(2_000, &[1]);
    assert_eq!(expired(&mut desk, 10), [["chief", "worker"]]);
    let counts = |desk: &Desk| -> Vec<u32> {
        desk.master.view(desk.now_ms).frameworks[0].demands.iter().map(|demand| demand.count).collect()
    };
    assert_eq!(counts(&desk), [0, 0, 1, 1]);
    desk.register(2, "b", 128.0, vec![]);
    desk.pass(1_000, &[1, 2]);
    let offered = desk.offers_to(10);
    assert!(offered.iter().any(|offer| offer.agent_id.as_str() == "b"), "the others are met: {offered:?}");
    desk.pass(30_000, &[1, 2]);
    assert_eq!(expired(&mut desk, 10), [["alone"]]);

    // What has expired and is posted anew begins anew.
    desk.want(10, &wanted[..2]);
    desk.pass(9_000, &[1, 2]);
    assert!(expired(&mut desk, 10).is_empty());
    desk.pass(2_000, &[1, 2]);
    assert_eq!(expired(&mut desk, 10).len(), 1);
}

#[test]
fn what_is_met_or_given_up_does_not_expire() {
    let mut desk = Desk::new();
    desk.register(1, "a", 4.0, vec![]);
    desk.subscribe(10, None, "r", 60_000);
    desk.want(10, &[within("t", "", 1.0, Some(5_000))]);
    desk.pass(1_000, &[1]);
    let offers = desk.offers_to(10);
    desk.accept(10, &[&offers[0]], vec![task("t", "a", 1.0)]);
    desk.pass(10_000, &[1]);
    assert!(expired(&mut desk, 10).is_empty());
    desk.want(10, &[within("u", "", 64.0, Some(5_000))]);
    desk.want(10, &[]);
    desk.pass(10_000, &[1]);
    assert!(expired(&mut desk, 10).is_empty());
    // A framework that ends leaves nothing that could be due.
    desk.want(10, &[within("v", "", 64.0, Some(5_000))]);
    desk.framework(10, FrameworkCall::Teardown);
    desk.pass(10_000, &[1]);
}
