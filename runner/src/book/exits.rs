//! Whether a program that ended like this is worth starting again, where a job asks for its exit code to be looked at.
//!
//! The classes are those of Kubeflow's training operator: 1, 2, 126, 127, 128 and 139 (a segmentation fault) are permanent;
//! 130, 137, 138 and 143 (interrupted, killed, a signal of the user's own, terminated) are not. Of the codes that it leaves
//! open, up to 127 a program chose itself and will choose again; what is above comes from a signal, and from outside.

use super::Status;
use jobs::Reason;

/// 139: 128 and SIGSEGV.
const SEGMENTATION_FAULT: i32 = 139;

pub fn is_permanent(status: &Status) -> bool {
    match status.reason {
        Reason::Exited => {
            // A signal comes as its number below zero; a shell would say 128 and the number.
            let code = if status.exit_code < 0 { 128 - status.exit_code } else { status.exit_code };
            (1..=128).contains(&code) || code == SEGMENTATION_FAULT
        }
        // There is no such program, or it had all the time that it may have.
        Reason::LaunchFailed | Reason::TimedOut => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jobs::TaskState;

    fn ended(exit_code: i32, reason: Reason) -> Status {
        Status {
            task: "t".into(),
            agent: "a".into(),
            state: TaskState::Failed,
            reason,
            message: String::new(),
            uuid: String::new(),
            exit_code,
        }
    }

    #[test]
    fn codes_are_judged_as_in_kubeflow() {
        for permanent in [1, 2, 3, 126, 127, 128, 139, -11] {
            assert!(is_permanent(&ended(permanent, Reason::Exited)), "{permanent}");
        }
        // 0: nobody saw how it ended.
        for retryable in [0, 129, 130, 134, 137, 138, 143, 255, -2, -9, -10, -15] {
            assert!(!is_permanent(&ended(retryable, Reason::Exited)), "{retryable}");
        }
    }

    #[test]
    fn what_happened_to_it_from_outside_is_not_permanent() {
        for reason in [Reason::OutOfMemory, Reason::AgentRemoved, Reason::AgentUnreachable, Reason::InvalidOffer] {
            assert!(!is_permanent(&ended(1, reason)), "{reason:?}");
        }
        assert!(is_permanent(&ended(0, Reason::LaunchFailed)));
        assert!(is_permanent(&ended(-9, Reason::TimedOut)));
    }
}
