# db is updated first; web, which is to be restarted with it, follows, though its own file is the same.
node n1
service db db:1 monitor=1000
service web web:1 replicas=2 follows=db monitor=1000
service log log:1
apply
run 1000
service db db:2 monitor=1000
apply
run 5000
show
