-- Rows from a linear congruential generator; indices, a join, groups, sorting, updates and text.
create table numbers(id integer primary key, value integer, name text);
insert into numbers
    with recursive generator(id, value) as (
        select 1, 12345 union all
        select id + 1, (value * 1103515245 + 12345) & 2147483647 from generator where id < :rows)
    select id, value, printf('n%08x', value) from generator;
create index by_name on numbers(name);
create table kinds(kind integer primary key, label text);
insert into kinds with recursive c(x) as (select 0 union all select x + 1 from c where x < 96)
    select x, 'kind ' || x from c;
select kinds.label, count(*), sum(value), max(name) from numbers join kinds on kinds.kind = numbers.value % 97
    group by kinds.label order by 2 desc, 1 limit 3;
update numbers set value = value / 3 where name between 'n2' and 'n5';
delete from numbers where id % 5 = 0;
select count(*), sum(value), sum(length(name)) from numbers where name like '%f%';
select a.name, b.name from numbers a join numbers b on b.name > a.name and b.id = a.id + 1
    order by b.value - a.value desc limit 2;
select group_concat(value) from (select value % 1000 as value from numbers order by substr(name, 5) limit 5);
pragma integrity_check;
