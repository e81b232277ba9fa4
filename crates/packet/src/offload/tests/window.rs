//! Joining in place: a packet that is decrypted where it would continue the run.

use super::draft::Draft;
use super::joining::{every_kind, start, taken_apart};
use crate::offload::Run;

#[test]
fn a_window_joins_without_a_copy_or_gives_the_packet_back() {
    for draft in every_kind() {
        for payload_bytes in [1, 100] {
            let draft = draft.clone().with(|draft| draft.payload.truncate(payload_bytes));
            let mut run = start(&draft.bytes());
            let mut stray = vec![9; 9];
            let next = draft.next().bytes();
            let stranger = draft.next().with(|next| next.host += 1).bytes();

            run.window(stranger.len() + 16)[..stranger.len()].copy_from_slice(&stranger);
            assert!(!run.settle(stranger.len(), &mut stray));
            assert_eq!(stray, stranger);

            run.window(700).fill(0x55);
            assert!(!run.settle(0, &mut stray), "nothing was opened");
            assert!(stray.is_empty());

            run.window(next.len() + 16)[..next.len()].copy_from_slice(&next);
            assert!(run.settle(next.len() + 5, &mut stray), "padding is ignored");
            assert!(stray.is_empty());
            assert_eq!(taken_apart(run), [draft.bytes(), next]);
        }
    }
}

#[test]
fn a_window_left_open_changes_nothing() {
    let draft = Draft::udp(false, 1);
    let ways: [fn(&mut Run); 3] = [
        |_| (),
        |run| run.window(3).fill(2),
        |run| assert!(!run.join(&[0x45; 10])),
    ];
    for way in ways {
        let mut run = start(&draft.bytes());
        run.window(300).fill(1);
        way(&mut run);
        assert_eq!(run.finish(), draft.bytes());
        assert!(!run.settle(30, &mut Vec::new()), "there is no window any more");
    }
    let mut run = start(&draft.bytes());
    run.window(300).fill(1);
    assert!(run.join(&draft.next().bytes()));
    assert_eq!(taken_apart(run), [draft.bytes(), draft.next().bytes()]);
}

#[test]
fn a_packet_that_stands_alone_offers_a_window_too() {
    let mut run = start(&[1, 2, 3]);
    run.window(4).copy_from_slice(&[4, 5, 6, 7]);
    let mut stray = Vec::new();
    assert!(!run.settle(2, &mut stray));
    assert_eq!(stray, [4, 5]);
    assert_eq!(run.finish(), [1, 2, 3]);
}
