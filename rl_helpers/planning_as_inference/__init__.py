"""Part III, planning as inference and maximum entropy."""
