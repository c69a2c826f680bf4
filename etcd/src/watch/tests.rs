//! What watches are told of how far they are.

use super::*;

#[test]
fn only_a_current_watch_that_has_begun_is_told() {
    assert_eq!(told(9, 5, 9), Some(9), "nothing happened in its range");
    assert_eq!(told(10, 5, 9), Some(10), "more was written meanwhile, elsewhere");
    assert_eq!(told(9, 9, 9), Some(9));
    assert_eq!(told(5, 5, 9), None, "events wait to be sent");
    assert_eq!(told(99, 99, 9), None, "it begins in the future");
}
