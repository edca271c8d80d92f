-- Which start of a process gave the sign of life: two that were started under one name can tell each other apart.
alter table process add column incarnation uuid;
