# A node goes in the middle of an update: it stalls nobody, and its slot is updated elsewhere.
node n1
node n2
service web web:1 replicas=4 monitor=1000
apply
run 1000
service web web:2 replicas=4 monitor=1000
apply
run 300
away n2
run 3000
lost n2
run 5000
show
back n2
run 3000
show
