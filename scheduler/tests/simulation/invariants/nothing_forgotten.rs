//! The allocator looks only at what changed, and misses nothing by that: looking at everything offers nothing more.

use scheduler::Master;
use scheduler::master::Command;

pub fn check(master: &mut Master, said: &[Command]) {
    let more = master.look_everywhere();
    assert!(more.is_empty(), "looking everywhere offers {more:?}, after {said:?}");
}
