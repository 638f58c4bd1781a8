//! The whole of it, from outside: the built program, its processes, files and doors, as a user meets them.
//!
//! Nothing needs to be installed. Each test owns a folder and, where it needs one, a cluster in it; at most two clusters
//! work at a time. Every wait has a generous end and says what it last saw; nothing is timed.

mod artifacts;
mod broker;
mod chaos;
mod checkpoints;
mod cluster;
mod commands;
mod continuous;
mod demo;
mod doors;
mod encrypted;
mod events;
mod framework;
mod gangs;
mod kills;
mod live;
mod lookups;
mod metrics;
mod mistakes;
mod models;
mod nexmark;
mod notebook;
mod operate;
mod pauses;
mod places;
mod preemption;
mod processes;
mod program;
mod python;
mod regions;
mod rows;
mod run;
mod schedules;
mod secrets;
mod sql;
mod stop;
mod sweeps;
mod tokens;
mod traces;
mod training;
mod trouble;
mod volumes;
mod wait;
