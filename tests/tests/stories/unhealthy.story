# An instance that becomes unhealthy is replaced in its slot, the others stay. One that is ill while it
# is being updated counts against the update.
node n1
image web:1 sickens
service web web:1 replicas=2 check=200 monitor=2000 action=rollback
apply
run 4000
show
image web:2 sickens
service web web:2 replicas=2 check=200 monitor=2000 action=rollback
apply
run 8000
show
