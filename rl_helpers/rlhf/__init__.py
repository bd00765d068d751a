"""A language small enough to list, and what Part IV does with it: RLHF, DPO, GRPO."""
