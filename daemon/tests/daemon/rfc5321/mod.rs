//! RFC 5321 by section, over a socket.

mod section_2_3_8_lines;
mod section_3_1_session_initiation;
mod section_3_3_mail_transactions;
mod section_4_1_1_commands;
mod section_4_5_1_minimum;
mod section_4_5_2_transparency;
mod section_4_5_3_1_sizes;
mod section_4_5_3_2_timeouts;
mod section_4_5_5_null_reverse_path;
mod section_6_3_loops;
