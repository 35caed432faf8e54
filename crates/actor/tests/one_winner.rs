//! The slots with one winner, under a model checker that tries every order of what threads do.
//!
//! It checks the very source of the crate; only the locks and atomics in `crate::sync` are the checker's.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::sync::Arc;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use procession_model::{HostId, ProcId};

use crate::answer::Answer;
use crate::binding::Binding;
use crate::port_table::{Cancelled, PortTable};
use crate::right::Right;

mod sync {
    pub(crate) use loom::model;
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

mod answer {
    pub(crate) use procession_actor::Answer;
}

#[expect(dead_code, reason = "what cancels a port is tested at its table")]
#[path = "../src/binding.rs"]
mod binding;
#[expect(dead_code, reason = "ports that take many values have no winner")]
#[path = "../src/port_table.rs"]
mod port_table;
#[expect(dead_code, reason = "as above")]
#[path = "../src/right.rs"]
mod right;

/// How often a once port's sink was called.
#[derive(Clone)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn open(&self, table: &PortTable) -> u64 {
        let calls = self.clone();
        table.open_once(Box::new(move |_| calls.add()))
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn value() -> Answer {
    Answer::Value { tag: "exit".to_owned(), parts: Vec::new(), claims: procession_actor::Claims::default() }
}

fn holders() -> [ProcId; 2] {
    let host = HostId::fresh("test");
    ["first", "second"].map(|name| ProcId::fresh(name, &host).unwrap())
}

/// Runs all of these at once, and waits for them.
fn together(works: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = works.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn of_two_answers_and_the_end_of_the_holder_one_is_delivered_and_late_values_are_counted() {
    loom::model(|| {
        let [holder, _] = holders();
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let index = calls.open(&table);
        table.set_holder(index, Some(holder.clone()));
        let answer = |table: &Arc<PortTable>| -> Box<dyn FnOnce() + Send> {
            let table = Arc::clone(table);
            Box::new(move || table.answer(index, value()))
        };
        let gone = Arc::clone(&table);
        together(vec![
            answer(&table),
            answer(&table),
            Box::new(move || gone.holder_gone(&holder, "it died")),
        ]);
        assert_eq!(calls.count(), 1);
        assert_eq!(table.len(), 0);
        assert!((1..=2).contains(&table.late()), "{} late", table.late());
    });
}

#[test]
fn a_port_whose_holder_dies_while_it_moves_on_is_closed_by_the_end_of_the_last_one() {
    loom::model(|| {
        let [first, second] = holders();
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let index = calls.open(&table);
        table.set_holder(index, Some(first.clone()));
        let (moving, dying, to) = (Arc::clone(&table), Arc::clone(&table), second.clone());
        together(vec![
            Box::new(move || {
                moving.set_holder(index, Some(to));
            }),
            Box::new(move || dying.holder_gone(&first, "it died")),
        ]);
        table.holder_gone(&second, "it died too");
        assert_eq!((calls.count(), table.len()), (1, 0));
    });
}

#[test]
fn of_an_answer_and_a_cancel_one_wins_and_a_holder_that_gets_the_port_meanwhile_is_told() {
    loom::model(|| {
        let [first, second] = holders();
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let index = calls.open(&table);
        table.set_holder(index, Some(first.clone()));
        // Those who are sent the news that nobody waits, as whoever moves the port and whoever cancels it see to it.
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (moving, cancelling) = (Arc::clone(&table), Arc::clone(&table));
        let (of_move, of_cancel, to) = (Arc::clone(&told), Arc::clone(&told), second.clone());
        together(vec![
            Box::new(move || {
                moving.set_holder(index, Some(to));
                // Here the port is sent.
                if moving.any_cancelled() {
                    of_move.lock().unwrap().extend(moving.holder_to_tell(index));
                }
            }),
            Box::new(move || {
                if let Cancelled::At(holder) = cancelling.cancel(index) {
                    of_cancel.lock().unwrap().push(holder);
                }
            }),
        ]);
        assert!(told.lock().unwrap().contains(&second), "{:?}", told.lock().unwrap());
        table.answer(index, value());
        assert_eq!((calls.count(), table.len(), table.late()), (0, 0, 0));
    });
}

#[test]
fn an_answer_that_comes_with_a_cancel_is_delivered_or_dropped_and_leaves_no_entry() {
    loom::model(|| {
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let index = calls.open(&table);
        let (answering, cancelling) = (Arc::clone(&table), Arc::clone(&table));
        let won = Calls::new();
        let of_cancel = won.clone();
        together(vec![
            Box::new(move || answering.answer(index, value())),
            Box::new(move || {
                if cancelling.cancel(index) == Cancelled::Here {
                    of_cancel.add();
                }
            }),
        ]);
        assert_eq!(calls.count() + won.count(), 1);
        assert_eq!(table.len(), 0);
    });
}

#[test]
fn a_receiver_that_goes_while_its_port_is_bound_and_answered_leaves_no_entry() {
    loom::model(|| {
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let binding = Arc::new(Binding::default());
        let (sender, receiver) = ((Arc::clone(&table), Arc::clone(&binding)), (Arc::clone(&table), binding));
        let of_sender = calls.clone();
        together(vec![
            Box::new(move || {
                let index = sender.1.bind(&sender.0, || of_sender.open(&sender.0));
                sender.0.answer(index, value());
            }),
            Box::new(move || receiver.1.close(&receiver.0)),
        ]);
        assert_eq!(table.len(), 0);
        assert_eq!(calls.count() as u64 + table.late(), 1, "the answer was delivered or counted as late");
    });
}

#[test]
fn the_end_of_a_connection_and_an_answer_call_a_sink_once_between_them() {
    loom::model(|| {
        let (table, calls) = (Arc::new(PortTable::default()), Calls::new());
        let index = calls.open(&table);
        let (answering, closing) = (Arc::clone(&table), Arc::clone(&table));
        together(vec![
            Box::new(move || answering.answer(index, value())),
            Box::new(move || closing.close_all("the connection was lost")),
        ]);
        assert_eq!((calls.count(), table.len()), (1, 0));
    });
}

#[test]
fn of_two_who_answer_and_one_who_gives_up_one_has_the_right() {
    loom::model(|| {
        let (right, won) = (Arc::new(Right::new()), Calls::new());
        let spend = || -> Box<dyn FnOnce() + Send> {
            let (right, won) = (Arc::clone(&right), won.clone());
            Box::new(move || {
                if right.spend().is_ok() {
                    won.add();
                }
            })
        };
        let (giving_up, told) = (Arc::clone(&right), won.clone());
        together(vec![
            spend(),
            spend(),
            Box::new(move || {
                if giving_up.give_up("dropped") {
                    told.add();
                }
            }),
        ]);
        assert_eq!(won.count(), 1, "the owner is answered, or told, once");
        assert!(right.check().is_err());
    });
}

#[test]
fn a_right_that_is_given_up_while_it_comes_back_is_told_of_once() {
    loom::model(|| {
        let (right, told) = (Arc::new(Right::new()), Calls::new());
        right.take_away().unwrap();
        let give_up = || -> Box<dyn FnOnce() + Send> {
            let (right, told) = (Arc::clone(&right), told.clone());
            Box::new(move || {
                if right.give_up("dropped") {
                    told.add();
                }
            })
        };
        let (undoing, of_undo) = (Arc::clone(&right), told.clone());
        together(vec![
            give_up(),
            give_up(),
            Box::new(move || {
                if let Some(reason) = undoing.restore()
                    && undoing.give_up(&reason)
                {
                    of_undo.add();
                }
            }),
        ]);
        assert_eq!(told.count(), 1);
        assert_eq!(right.check(), Err("PortClosed"));
        assert!(!right.is_spent());
    });
}
